"""Clients' models, and what they send of each class, brought together as `aggregation.*` says."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from fedhpro_flwr.aggregation import ClassMean, ClassWeighting, check_rows, class_mean, weighted_mean
from fedhpro_flwr.robust import clipped_models, cut_of, middle_mean, middle_model, shrink_factors
from fedhpro_flwr.settings.sections import Aggregation


def average_models(
    options: Aggregation,
    models: Sequence[Mapping[str, Tensor]],
    examples: Sequence[int],
    sent: Mapping[str, Tensor],
) -> dict[str, Tensor]:
    """The new model, or the part of it that these clients share.

    Args:
        options: `aggregation.*`.
        models: of the clients, in partition order; not empty.
        examples: samples of each, the weights of the mean where `aggregation.weighting = "samples"`.
        sent: what the clients received.

    Raises:
        ValueError: models that differ in names or shapes.
    """
    if options.clip_norm > 0 or options.clip_to_median:
        longest = options.clip_norm or math.inf
        models = clipped_models(models, sent, longest=longest, to_median=options.clip_to_median)
    if options.model == "mean":
        return weighted_mean(models, examples if options.weighting == "samples" else [1] * len(models))
    return middle_model(models, options.model, options.trim)


def average_classes(
    options: Aggregation,
    ids: Sequence[Tensor],
    values: Sequence[Tensor],
    counts: Sequence[Tensor],
    num_classes: int,
    *,
    weighting: ClassWeighting = "clients",
) -> ClassMean:
    """What the clients sent of each class (class gradients, class means), brought together over those that hold it.

    Args:
        options: `aggregation.*`. Its `clip-norm` is a length of model updates and does not apply here.
        ids: the classes of each client [P] int64, in partition order.
        values: a row for each of them [P, ...].
        counts: the client's samples of each of them [P].
        num_classes: C.
        weighting: of the mean; median and trimmed mean count each client once.

    Raises:
        ValueError: as `class_mean`.
    """
    if options.class_gradients == "mean" and not options.clip_to_median:
        return class_mean(ids, values, counts, num_classes, weighting=weighting)
    dense, held = _dense(ids, values, num_classes)  # [N, C, ...], [N, C]
    shape = (*held.shape, *[1] * (dense.ndim - 2))
    if options.clip_to_median:
        norms = torch.linalg.vector_norm(dense.flatten(2).double(), dim=2)  # [N, C]
        dense = dense * shrink_factors(norms, held, to_median=True).view(shape).to(dense)
    class_mask = held.any(dim=0)
    if options.class_gradients != "mean":
        cut = cut_of(options.class_gradients, held.sum(dim=0), options.trim)
        return ClassMean(middle_mean(dense, held, cut), class_mask)
    weights = held.double()
    if weighting == "counts":
        for row, own, samples in zip(weights, ids, counts, strict=True):
            row[own] = samples.to(row)
    summed = (dense.double() * weights.view(shape)).sum(dim=0)
    total = weights.sum(dim=0).clamp(min=1.0).view(shape[1:])
    return ClassMean((summed / total).to(dense.dtype), class_mask)


def _dense(ids: Sequence[Tensor], values: Sequence[Tensor], num_classes: int) -> tuple[Tensor, Tensor]:
    check_rows(ids, values, num_classes)
    dense = values[0].new_zeros((len(values), num_classes, *values[0].shape[1:]))
    held = torch.zeros(len(values), num_classes, dtype=torch.bool, device=dense.device)
    for place, (own, rows) in enumerate(zip(ids, values, strict=True)):
        dense[place, own] = rows.detach()
        held[place, own] = True
    return dense, held
