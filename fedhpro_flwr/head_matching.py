"""Distances between gradients with respect to a head, by which prototypes are matched (reference preset) [R.c3].

The derivative of each distance is a sum of row R_j of the target and row G_j of the gradient, with factors
that depend only on their inner products and norms. So a step can be computed from products, without the
gradients themselves.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor

from fedhpro_flwr.gradient_matching import EPSILON

HeadDistance = Literal["rowwise", "cosine", "mse"]


class HeadGradients(NamedTuple):
    """Gradients with respect to a head, one pair for each of A classes."""

    weight: Tensor  # G [A, C, D]
    bias: Tensor  # [A, C]


class HeadProducts(NamedTuple):
    """Inner products of two head gradients row by row; those of one with itself are its squared norms."""

    weight: Tensor  # [A, C]
    bias: Tensor  # [A, 1]

    @classmethod
    def of(cls, left: HeadGradients, right: HeadGradients) -> HeadProducts:
        """The products of every row of W's gradient, and of b's."""
        return cls((left.weight * right.weight).sum(-1), (left.bias * right.bias).sum(-1, keepdim=True))

    def total(self) -> Tensor:
        """The product of weight and bias taken together: [A, 1]."""
        return self.weight.sum(-1, keepdim=True) + self.bias


class HeadPull(NamedTuple):
    """The derivative of a distance is row_target R_j + row_own G_j in each row j; likewise for the bias."""

    row_target: Tensor  # [A, C], or [A, 1] for all rows alike
    row_own: Tensor
    bias_target: Tensor  # [A, 1]
    bias_own: Tensor


def head_distance(g: HeadGradients, target: HeadGradients, distance: HeadDistance) -> Tensor:
    """Distance of virtual head gradients from the clients', one number per class [R.c3]: [A].

    "rowwise": sum_j [1 - R_j.G_j / (|R_j| |G_j| + eps)] over the C rows, plus one such term for the bias;
    "cosine": one such term for weight and bias taken together; "mse": the squared error, summed.
    """
    if distance == "mse":
        return (g.weight - target.weight).square().sum((-2, -1)) + (g.bias - target.bias).square().sum(-1)
    dot, own, other = HeadProducts.of(g, target), HeadProducts.of(g, g), HeadProducts.of(target, target)
    if distance == "rowwise":
        rows = 1 - dot.weight / (own.weight.sqrt() * other.weight.sqrt() + EPSILON)  # [A, C]
        bias = 1 - dot.bias / (own.bias.sqrt() * other.bias.sqrt() + EPSILON)  # [A, 1]
        return rows.sum(-1) + bias.squeeze(-1)
    if distance == "cosine":
        return (1 - dot.total() / (own.total().sqrt() * other.total().sqrt() + EPSILON)).squeeze(-1)
    raise ValueError(f"distance must be 'rowwise', 'cosine' or 'mse', got {distance!r}")


def head_pull(dot: HeadProducts, own: HeadProducts, target: HeadProducts, distance: HeadDistance) -> HeadPull:
    """Factors of the derivative of `head_distance` with respect to g, from the products G.R, G.G and R.R [R.c3].

    A zero norm has the derivative zero.
    """
    if distance == "rowwise":
        row = _cosine_pull(dot.weight, own.weight, target.weight)
        return HeadPull(*row, *_cosine_pull(dot.bias, own.bias, target.bias))
    if distance == "cosine":
        both = _cosine_pull(dot.total(), own.total(), target.total())
        return HeadPull(*both, *both)
    if distance == "mse":
        two = torch.full_like(dot.bias, 2.0)
        return HeadPull(-two, two, -two, two)
    raise ValueError(f"distance must be 'rowwise', 'cosine' or 'mse', got {distance!r}")


def pulled(pull: HeadPull, g: HeadGradients, target: HeadGradients) -> HeadGradients:
    """The derivative itself: U [A, C, D] and the bias's [A, C]."""
    return HeadGradients(
        (pull.row_target[..., None] * target.weight).addcmul_(pull.row_own[..., None], g.weight),
        pull.bias_target * target.bias + pull.bias_own * g.bias,
    )


def _cosine_pull(dot: Tensor, own_square: Tensor, target_square: Tensor) -> tuple[Tensor, Tensor]:
    own_norm, target_norm = own_square.sqrt(), target_square.sqrt()
    norms = own_norm * target_norm + EPSILON
    along = dot / norms * (target_norm / norms)
    return -1.0 / norms, along / own_norm.clamp_min(torch.finfo(dot.dtype).tiny)
