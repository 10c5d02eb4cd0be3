"""Clients' models, and what they send for each class, averaged as `aggregation.*` says."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from fedhpro_flwr.aggregation import ClassAverage, ClassWeighting, class_mean, weighted_mean
from fedhpro_flwr.robust import clipped_models, cut_of, middle_mean, middle_model, shrink_factors
from fedhpro_flwr.settings.sections import AggregationOptions


def average_models(
    options: AggregationOptions,
    models: Sequence[Mapping[str, Tensor]],
    examples: Sequence[int],
    sent: Mapping[str, Tensor],
) -> dict[str, Tensor]:
    """The new model, or the part of it that these clients share.

    Args:
        options: `aggregation.*`.
        models: the clients', in partition order; not empty.
        examples: samples of each client, the weights of the mean if `aggregation.weighting = "samples"`.
        sent: what the clients received.
    """
    if options.clip_norm > 0 or options.clip_to_median:
        longest = options.clip_norm or math.inf
        models = clipped_models(models, sent, longest=longest, to_median=options.clip_to_median)
    if options.model == "mean":
        return weighted_mean(models, examples if options.weighting == "samples" else [1] * len(models))
    return middle_model(models, options.model, options.trim)


def average_classes(
    options: AggregationOptions,
    ids: Sequence[Tensor],
    values: Sequence[Tensor],
    counts: Sequence[Tensor],
    num_classes: int,
    *,
    weighting: ClassWeighting = "clients",
) -> ClassAverage:
    """What the clients sent for each class (class gradients, class means), averaged over the clients that hold it.

    Args:
        options: `aggregation.*`. Its `clip-norm` is a length of model updates and does not apply here.
        ids: the classes of each client [P] int64, in partition order.
        values: a row for each of them [P, ...].
        counts: the client's samples of each of them [P].
        num_classes: C.
        weighting: of the mean; median and trimmed mean count each client once.
    """
    held = _held(ids, num_classes).to(values[0].device)  # [N, C]
    if options.clip_to_median:
        values = _shrunk(ids, values, held)
    if options.class_gradients == "mean":
        return class_mean(ids, values, counts, num_classes, weighting=weighting)
    dense = values[0].new_zeros(*held.shape, *values[0].shape[1:])  # [N, C, ...]
    for place, (own, rows) in enumerate(zip(ids, values, strict=True)):
        dense[place, own] = rows.detach()
    cut = cut_of(options.class_gradients, held.sum(dim=0), options.trim)
    return ClassAverage(middle_mean(dense, held, cut), held.any(dim=0))


def _held(ids: Sequence[Tensor], num_classes: int) -> Tensor:
    """Which client holds which class: [N, C] bool."""
    held = torch.zeros(len(ids), num_classes, dtype=torch.bool)
    for place, own in enumerate(ids):
        held[place, own] = True
    return held


def _shrunk(ids: Sequence[Tensor], values: Sequence[Tensor], held: Tensor) -> list[Tensor]:
    """The rows, each shortened to the median length of its class if it is longer."""
    norms = torch.zeros(held.shape, dtype=torch.float64, device=held.device)
    for place, (own, rows) in enumerate(zip(ids, values, strict=True)):
        norms[place, own] = torch.linalg.vector_norm(rows.detach().flatten(1).double(), dim=1)
    factors = shrink_factors(norms, held, to_median=True)
    return [
        rows.detach() * factors[place, own].view(-1, *[1] * (rows.ndim - 1)).to(rows)
        for place, (own, rows) in enumerate(zip(ids, values, strict=True))
    ]
