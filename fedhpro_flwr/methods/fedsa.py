r"""FedSA: Zhou et al., FedSA: A Unified Representation Learning via Semantic Anchors for Prototype-based Federated
Learning, AAAI 2025.

.. math::
    L_k = CE + \lambda \frac{1}{B} \sum_i d(z_i, a^{y_i})
    - \mu \frac{1}{B} \sum_i \log \frac{e^{-(|z_i - a^{y_i}| + m_k)}}
    {e^{-(|z_i - a^{y_i}| + m_k)} + \sum_{c \ne y_i} e^{-|z_i - a^c|}}
    + \nu \frac{1}{C} \sum_c CE(W a^c + b, c)

    a^c \leftarrow \alpha a^c + (1 - \alpha) \frac{1}{|N_c|} \sum_{k \in N_c} C_k^c, \qquad
    m_k = \max(\mathrm{gap}(C_k), \mathrm{gap}(a))

with a the semantic anchors, C_k^c the mean feature of class c at client k after its last visit, and gap the mean, over
classes, of the distance to the nearest other class. The second and third term are the publication's regularisation with
margin-enhanced contrastive learning (RMCL), the last its classifier calibration (CC). Anchors start as random vectors
sent through an untrained network, so clients have them from round 1 on.

The details are those of the authors' released code. It takes C_k^c over the batches of a visit while the model moves,
we take it after the visit, in eval mode, as for every other method here (DEVIATIONS.md).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from fedhpro_flwr.class_means import ClassMeans
from fedhpro_flwr.margin_contrast import margin_contrast, mean_gap
from fedhpro_flwr.methods.arrival import Arrival, Batch, Departure, LocalLoss
from fedhpro_flwr.methods.base import method
from fedhpro_flwr.methods.prototype_method import GlobalPrototypes, HasPrototypes, PrototypeMethod, class_means
from fedhpro_flwr.prototypes import Prototypes, squared_distance
from fedhpro_flwr.records import CLASS_PROTOTYPES
from fedhpro_flwr.seeding import Draws


@method("fedsa")
class FedSA(PrototypeMethod):
    """L = CE + lambda |z - a^y|^2 / D + mu contrast(z, a) + nu CE(W a + b); a follows the clients' class means slowly.

    A client remembers the class means of its last visit, for its margin.
    """

    takes_hyper_prototypes: ClassVar[bool] = True

    def start_prototypes(self, num_classes: int, width: int) -> GlobalPrototypes:
        """Random anchors: every class has one from the start."""
        anchors = random_anchors(num_classes, width, Draws(self.config.seed).torch("semantic-anchors"))
        return GlobalPrototypes(Prototypes(anchors, torch.ones(num_classes, dtype=torch.bool)))

    def update_prototypes(self, state: HasPrototypes, means: Sequence[ClassMeans], draws: Draws) -> GlobalPrototypes:
        """The exponential moving average of the plain mean over clients; a class that nobody sent keeps its anchor."""
        before, decay = state.prototypes, self.config.fedsa.decay
        mean, class_mask = self.averaged(means, len(before.known))
        return GlobalPrototypes(before.updated(decay * before.vectors + (1 - decay) * mean, class_mask))

    def prototype_loss(self, arrival: Arrival, prototypes: Prototypes) -> LocalLoss:
        """RMCL on the features and CC on the head; the anchors and the margin are constants of the visit."""
        options, head = self.config.fedsa, arrival.model.head
        anchors = prototypes.vectors  # [C, D]
        classes = torch.arange(len(anchors), device=anchors.device)
        margin = mean_gap(anchors)
        if CLASS_PROTOTYPES in arrival.memory:
            margin = torch.maximum(margin, mean_gap(arrival.memory[CLASS_PROTOTYPES].to(anchors)))

        def loss(batch: Batch) -> Tensor:
            z, labels = batch.z, batch.labels  # [B, D], [B]
            return (
                options.weight * squared_distance(z, labels, prototypes)
                + options.contrast_weight * margin_contrast(z, labels, anchors, margin)
                + options.calibration_weight * F.cross_entropy(head(anchors), classes)
            )

        return loss

    def depart(self, arrival: Arrival, steps: int) -> Departure:
        """The class means, sent (unless hyper-prototypes replace the anchors) and remembered."""
        return replace(super().depart(arrival, steps), memory={CLASS_PROTOTYPES: class_means(arrival).means})


def random_anchors(num_classes: int, width: int, generator: torch.Generator) -> Tensor:
    """N(0, 1) sent twice through a random layer, a standardisation over the classes, and a ReLU: [C, D], >= 0.

    The layers' weights are drawn as torch draws them: U(-1/sqrt(D), 1/sqrt(D)).
    """
    bound = 1 / math.sqrt(width)
    anchors = torch.randn(num_classes, width, generator=generator)
    for _ in range(2):
        weight = torch.empty(width, width).uniform_(-bound, bound, generator=generator)
        # The layer's bias would be taken out again by the standardisation.
        anchors = F.relu(F.batch_norm(F.linear(anchors, weight), None, None, training=True))
    return anchors
