"""Sums over clients: the weighted mean of models [P.5] [R.c1], the mean of class gradients [P.1] [R.c2].

Both add in the order in which the clients are given, so the same replies give the same bits; both add in float64,
so the order hardly matters for the value. Replies were checked before (server/reply_checks.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor

ClassWeighting = Literal["clients", "counts"]
ModelWeighting = Literal["samples", "clients"]

VARIANCE = "running_var"  # the end of the name of a BatchNorm's variance
RUNNING_STATISTICS = (
    "running_mean",
    VARIANCE,
)  # the same for all its statistics: the data moves them, they have no gradient


def weighted_mean(states: Sequence[Mapping[str, Tensor]], weights: Sequence[float]) -> dict[str, Tensor]:
    """sum_k n_k v_k / sum_k n_k for every entry of the clients' models [P.5] [R.c1].

    Floating tensors (parameters and buffers) keep their dtype. Integer buffers, BatchNorm's batch counters, have no
    meaningful mean: the largest is kept. (The reference sends their mean and cuts it off on loading.)
    """
    total = float(sum(weights))
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


class ClassAverage(NamedTuple):
    """Average over clients per class, and which classes anybody sent; a client's own means are `ClassMeans`."""

    mean: Tensor  # [C, ...], zero if nobody sent the class; a median or trimmed mean if `aggregation.*` asks for it
    class_mask: Tensor  # [C] bool


def class_mean(
    ids: Sequence[Tensor],
    values: Sequence[Tensor],
    counts: Sequence[Tensor],
    num_classes: int,
    *,
    weighting: ClassWeighting = "clients",
) -> ClassAverage:
    """Mean of the clients' class gradients, or class means, over the clients that hold the class [P.1] [R.c2].

    Args:
        ids: the classes of each client [P] int64, in partition order.
        values: a row for each of them [P, ...].
        counts: the client's samples of each of them [P].
        num_classes: C.
        weighting: "clients" counts each client once (paper and reference), "counts" weights it by its samples.
    """
    summed = values[0].new_zeros((num_classes, *values[0].shape[1:]), dtype=torch.float64)
    total = values[0].new_zeros(num_classes, dtype=torch.float64)
    for own, rows, samples in zip(ids, values, counts, strict=True):
        held = (samples if weighting == "counts" else torch.ones_like(samples)).to(total)  # [P]
        shape = (-1, *[1] * (rows.ndim - 1))
        summed.index_add_(0, own, rows.detach().to(summed) * held.reshape(shape))  # [P.1] [R.c2]
        total.index_add_(0, own, held)
    class_mask = total > 0
    divisor = torch.where(class_mask, total, 1.0).reshape((-1, *[1] * (summed.ndim - 1)))
    return ClassAverage((summed / divisor).to(values[0].dtype), class_mask)
