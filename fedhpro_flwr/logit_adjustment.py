"""Logit adjustment: a client's loss takes the shares of its classes into account, so that its model need not.

Under label skew a client learns how often it sees a class along with what the class looks like, and the average of the
clients' models then suits nobody. If the logarithms of the client's own class shares are added to the logits in its
loss, what is left to learn is the same at every client: the classes as if all were equally frequent, which is also
what a balanced test asks for. Nothing is added when the model predicts.

Menon et al., "Long-tail learning via logit adjustment" (ICLR 2021), for one imbalanced data set; at clients with label
skew Zhang et al., "Federated learning with label distribution skew via logits calibration" (ICML 2022), in other form.
"""

from __future__ import annotations

from torch import Tensor

from fedhpro_flwr.class_means import count_classes


def logit_offsets(labels: Tensor, num_classes: int, strength: float) -> Tensor | None:
    """What is added to the logits: strength * log((n^c + 1) / (n + C)) [C], or None for the strength 0.

    Each class counts one sample more than it has (Laplace), so a class that the client does not have stays in the loss:
    the samples of the other classes still push it down, a little.

    Args:
        labels: of the client's training samples [n].
        num_classes: C.
        strength: 1 for the loss of balanced classes, less for a part of the way to it.

    Raises:
        ValueError: for a label outside 0..C-1.
    """
    if strength == 0:
        return None
    counts = count_classes(labels, num_classes).float() + 1  # [C]
    return strength * (counts / counts.sum()).log()
