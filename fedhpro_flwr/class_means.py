"""The mean over the samples of each class at a client, of features or of the errors of predictions."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class ClassMeans:
    """Mean over the samples of each of the P classes of a client; row p belongs to class_ids[p]."""

    class_ids: Tensor  # [P] int64, ascending
    means: Tensor  # [P, D]
    counts: Tensor  # [P] int64, samples of the class at the client

    @classmethod
    def of(cls, values: Tensor, labels: Tensor, num_classes: int) -> ClassMeans:
        """(1 / n_k^c) sum_{i: y_i = c} v_i: values [n, D], labels [n].

        Raises:
            ValueError: for a label outside 0..C-1.
        """
        values = values.detach()
        counts = count_classes(labels, num_classes)
        present = counts.nonzero().squeeze(1)  # [P]
        # A product with the membership matrix instead of index_add: its sum has a fixed order on a GPU too.
        membership = (present[:, None] == labels).to(values) / counts[present, None]  # [P, n]
        return cls(present, membership @ values, counts[present])


def count_classes(labels: Tensor, num_classes: int) -> Tensor:
    """Samples of each class: labels [n] -> n [C] int64.

    Raises:
        ValueError: for a label outside 0..C-1.
    """
    if labels.numel() and (int(labels.min()) < 0 or int(labels.max()) >= num_classes):
        raise ValueError(f"labels must lie in 0..{num_classes - 1}, got {int(labels.min())}..{int(labels.max())}")
    return torch.bincount(labels, minlength=num_classes)
