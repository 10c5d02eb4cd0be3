"""Clients' models, and what they send of each class, brought together as `aggregation.*` says."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from fedhpro_flwr.aggregation import (
    ClassMean,
    ClassWeighting,
    GradientField,
    PerClass,
    class_mean,
    class_rows,
    weighted_mean,
)
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
    sent: Sequence[PerClass],
    num_classes: int,
    *,
    weighting: ClassWeighting = "clients",
    field: GradientField = "features",
) -> ClassMean:
    """What the clients sent of each class (class gradients, class means), brought together over those that hold it.

    Args:
        options: `aggregation.*`. Its `clip-norm` is a length of model updates and does not apply here.
        sent: of the clients, in partition order.
        num_classes: C.
        weighting: of the mean; median and trimmed mean count each client once.
        field: of which gradient, see `class_mean`.

    Raises:
        ValueError: as `class_mean`.
    """
    if options.class_gradients == "mean" and not options.clip_to_median:
        return class_mean(sent, num_classes, weighting=weighting, field=field)
    values, held = _dense(sent, num_classes, field)  # [N, C, ...], [N, C]
    shape = (*held.shape, *[1] * (values.ndim - 2))
    if options.clip_to_median:
        norms = torch.linalg.vector_norm(values.flatten(2).double(), dim=2)  # [N, C]
        values = values * shrink_factors(norms, held, to_median=True).view(shape).to(values)
    class_mask = held.any(dim=0)
    if options.class_gradients != "mean":
        cut = cut_of(options.class_gradients, held.sum(dim=0), options.trim)
        return ClassMean(middle_mean(values, held, cut), class_mask)
    weights = held.double()
    if weighting == "counts":
        for row, each in zip(weights, sent, strict=True):
            row[each.class_ids] = each.counts.to(row)
    summed = (values.double() * weights.view(shape)).sum(dim=0)
    total = weights.sum(dim=0).clamp(min=1.0).view(shape[1:])
    return ClassMean((summed / total).to(values.dtype), class_mask)


def _dense(sent: Sequence[PerClass], num_classes: int, field: GradientField) -> tuple[Tensor, Tensor]:
    rows = [class_rows(each, field, place, num_classes) for place, each in enumerate(sent)]
    if not rows:
        raise ValueError("need the class gradients of at least one client")
    values = rows[0].new_zeros((len(rows), num_classes, *rows[0].shape[1:]))
    held = torch.zeros(len(rows), num_classes, dtype=torch.bool, device=values.device)
    for place, (each, own) in enumerate(zip(sent, rows, strict=True)):
        values[place, each.class_ids] = own
        held[place, each.class_ids] = True
    return values, held
