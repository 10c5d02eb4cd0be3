"""Sums over clients: the weighted mean of models [P.5] [R.c1], the mean of class gradients [P.1] [R.c2].

Both add in the order the clients are given in, so the same replies give the same bits; both add in float64,
so the order hardly matters for the value.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple, Protocol

import torch
from torch import Tensor

ClassWeighting = Literal["clients", "counts"]
ModelWeighting = Literal["samples", "clients"]
GradientField = Literal["features", "head_weight", "head_bias"]

VARIANCE = "running_var"  # how the name of a BatchNorm's variance ends
STATISTICS = ("running_mean", VARIANCE)  # and those of all its statistics, which move by the data and have no gradient


def weighted_mean(states: Sequence[Mapping[str, Tensor]], weights: Sequence[float]) -> dict[str, Tensor]:
    """sum_k n_k v_k / sum_k n_k for every entry of the clients' models [P.5] [R.c1].

    Floating tensors (parameters and buffers) keep their dtype. Integer buffers, BatchNorm's batch counters, have no
    meaningful mean: the largest is kept. (The reference sends their mean and cuts it off on loading.)

    Raises:
        ValueError: without a client, for a weight that is negative or not finite, a total of zero, or models
            that differ in names or shapes; the client is named by its place in the sequence.
    """
    if not states or len(states) != len(weights):
        raise ValueError(f"need one weight for each of one or more models, got {len(states)} and {len(weights)}")
    for place, weight in enumerate(weights):
        if not 0.0 <= weight < math.inf:
            raise ValueError(f"the weight of client {place} must be >= 0 and finite, got {weight}")
    total = float(sum(weights))
    if total <= 0.0:
        raise ValueError("the weights of the clients sum to zero")
    _check_same_entries(states)

    mean: dict[str, Tensor] = {}
    for name, first in states[0].items():
        entries = [state[name].detach() for state in states]
        if not first.is_floating_point():
            mean[name] = torch.stack(entries).amax(dim=0)
            continue
        summed = torch.zeros_like(first, dtype=torch.float64)
        for entry, weight in zip(entries, weights, strict=True):
            summed.add_(entry, alpha=float(weight))  # [R.c1]
        mean[name] = (summed / total).to(first.dtype)
    return mean


class ClassMean(NamedTuple):
    """Mean over clients per class, and which classes anybody sent."""

    mean: Tensor  # [C, ...], zero where nobody sent the class
    class_mask: Tensor  # [C] bool


class PerClass(Protocol):
    """What a client sends of each of its classes: class gradients, or class means."""

    @property
    def class_ids(self) -> Tensor:
        """[P] int64."""

    @property
    def features(self) -> Tensor:
        """[P, D]."""

    @property
    def counts(self) -> Tensor:
        """[P] int64."""


def class_mean(
    gradients: Sequence[PerClass],
    num_classes: int,
    *,
    weighting: ClassWeighting = "clients",
    field: GradientField = "features",
) -> ClassMean:
    """Mean of the clients' class gradients, or class means, over the clients that hold the class [P.1] [R.c2].

    "clients" counts every such client once (paper and reference), "counts" by its samples of the class.
    `field` says of which gradient: "features" gives [C, D], "head_weight" [C, C, D], "head_bias" [C, C].

    Raises:
        ValueError: without a client, or if one lacks the field or names a class outside 0..C-1.
    """
    if not gradients:
        raise ValueError("need the class gradients of at least one client")
    rows = [class_rows(sent, field, place, num_classes) for place, sent in enumerate(gradients)]
    summed = rows[0].new_zeros((num_classes, *rows[0].shape[1:]), dtype=torch.float64)
    total = rows[0].new_zeros(num_classes, dtype=torch.float64)
    for sent, values in zip(gradients, rows, strict=True):
        held = (sent.counts if weighting == "counts" else torch.ones_like(sent.counts)).to(total)  # [P]
        shape = (-1, *[1] * (values.ndim - 1))
        summed.index_add_(0, sent.class_ids, values.to(summed) * held.reshape(shape))  # [P.1] [R.c2]
        total.index_add_(0, sent.class_ids, held)
    class_mask = total > 0
    divisor = torch.where(class_mask, total, 1.0).reshape((-1, *[1] * (summed.ndim - 1)))
    return ClassMean((summed / divisor).to(rows[0].dtype), class_mask)


def _check_same_entries(states: Sequence[Mapping[str, Tensor]]) -> None:
    shapes = {name: tensor.shape for name, tensor in states[0].items()}
    for place, state in enumerate(states):
        for name in shapes.keys() ^ state.keys():
            raise ValueError(f"the models of client 0 and client {place} differ: only one of them has {name!r}")
        for name, tensor in state.items():
            if tensor.shape != shapes[name]:
                raise ValueError(
                    f"{name!r} of client {place} has shape {list(tensor.shape)}, client 0's has {list(shapes[name])}"
                )


def class_rows(sent: PerClass, field: GradientField, place: int, num_classes: int) -> Tensor:
    """What the client at this place sent of each of its classes: [P, ...].

    Raises:
        ValueError: it lacks the field, has another number of rows, or names a class outside 0..C-1.
    """
    values: Tensor | None = getattr(sent, field, None)
    if values is None:
        raise ValueError(f"client {place} sent no {field} gradients")
    ids = sent.class_ids
    if ids.numel() and (int(ids.min()) < 0 or int(ids.max()) >= num_classes):
        raise ValueError(f"client {place} sent class ids outside 0..{num_classes - 1}")
    if values.shape[0] != ids.shape[0]:
        raise ValueError(f"client {place} sent {values.shape[0]} rows of {field} gradients for {ids.shape[0]} classes")
    return values.detach()
