r"""Contrast by distance with a margin: what FedTGP's server and FedSA's clients minimise, and their margins.

.. math::
    L = -\frac{1}{P} \sum_i \log \frac{e^{-(|x_i - p^{y_i}| + \delta)}}
    {e^{-(|x_i - p^{y_i}| + \delta)} + \sum_{c \ne y_i} e^{-|x_i - p^c|}}

Sources: Zhang et al., FedTGP, AAAI 2024, its adaptive-margin-enhanced contrastive learning; Zhou et al., FedSA, AAAI
2025, which takes the same loss to the clients' features.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def distances(points: Tensor, centres: Tensor) -> Tensor:
    """|x_i - p^c| [P, C] of points [P, D] and centres [C, D].

    Without the faster matrix product: in float32 that is inexact for near points, and has no gradient if two coincide.
    """
    return torch.cdist(points, centres, compute_mode="donot_use_mm_for_euclid_dist")


def margin_contrast(points: Tensor, labels: Tensor, centres: Tensor, margin: float | Tensor) -> Tensor:
    """The loss above, mean over the points: points [P, D], labels [P], one centre per class [C, D] -> scalar.

    Args:
        points: client prototypes (FedTGP) or features (FedSA).
        labels: the class of each.
        centres: p, of all classes.
        margin: delta >= 0, by which a point must be nearer to its own centre than to any other.
    """
    own = (labels[:, None] == torch.arange(len(centres), device=labels.device)).to(points)  # [P, C]
    return F.cross_entropy(-(distances(points, centres) + own * margin), labels)


def widest_gap(centres: Tensor) -> Tensor:
    """max_{a, b} |q^a - q^b| of centres [C, D] -> scalar; 0 for one centre or none."""
    return distances(centres, centres).amax() if len(centres) > 1 else centres.new_zeros(())


def mean_gap(centres: Tensor) -> Tensor:
    """(1 / C) sum_c min_{b != c} |q^c - q^b| of centres [C, D] -> scalar; 0 for one centre or none."""
    if len(centres) < 2:
        return centres.new_zeros(())
    return distances(centres, centres).fill_diagonal_(torch.inf).amin(dim=1).mean()
