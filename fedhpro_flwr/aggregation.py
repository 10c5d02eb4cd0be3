"""Sums over clients: the weighted mean of models [P.5] [R.c1], the mean of class gradients [P.1] [R.c2].

Both add in the order the clients are given in, so the same replies give the same bits; both add in float64,
so the order hardly matters for the value.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor

ClassWeighting = Literal["clients", "counts"]
ModelWeighting = Literal["samples", "clients"]

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


def class_mean(
    ids: Sequence[Tensor],
    values: Sequence[Tensor],
    counts: Sequence[Tensor],
    num_classes: int,
    *,
    weighting: ClassWeighting = "clients",
) -> ClassMean:
    """Mean of the clients' class gradients, or class means, over the clients that hold the class [P.1] [R.c2].

    Args:
        ids: the classes of each client [P] int64, in partition order.
        values: a row for each of them [P, ...].
        counts: the client's samples of each of them [P].
        num_classes: C.
        weighting: "clients" counts every client of a class once (paper and reference), "counts" by its samples of it.

    Raises:
        ValueError: without a client, or if one names a class outside 0..C-1 or has another number of rows.
    """
    check_rows(ids, values, num_classes)
    summed = values[0].new_zeros((num_classes, *values[0].shape[1:]), dtype=torch.float64)
    total = values[0].new_zeros(num_classes, dtype=torch.float64)
    for own, rows, samples in zip(ids, values, counts, strict=True):
        held = (samples if weighting == "counts" else torch.ones_like(samples)).to(total)  # [P]
        shape = (-1, *[1] * (rows.ndim - 1))
        summed.index_add_(0, own, rows.detach().to(summed) * held.reshape(shape))  # [P.1] [R.c2]
        total.index_add_(0, own, held)
    class_mask = total > 0
    divisor = torch.where(class_mask, total, 1.0).reshape((-1, *[1] * (summed.ndim - 1)))
    return ClassMean((summed / divisor).to(values[0].dtype), class_mask)


def check_rows(ids: Sequence[Tensor], values: Sequence[Tensor], num_classes: int) -> None:
    """Look at whether clients have a row for each of their classes; they are named by their place in the sequence.

    Raises:
        ValueError: there is no client, or one names a class outside 0..C-1 or has another number of rows.
    """
    if not ids:
        raise ValueError("need what at least one client sent of its classes")
    for place, (own, rows) in enumerate(zip(ids, values, strict=True)):
        if own.numel() and (int(own.min()) < 0 or int(own.max()) >= num_classes):
            raise ValueError(f"client {place} sent class ids outside 0..{num_classes - 1}")
        if rows.shape[0] != own.shape[0]:
            raise ValueError(f"client {place} sent {rows.shape[0]} rows for {own.shape[0]} classes")


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
