"""Class gradients of a client, and the distances by which hyper-prototypes are matched to them.

The gradient of the cross-entropy CE(W z + b, y) with respect to a feature is (softmax(W z + b) - e_y) W. A
client's class gradient is its mean over the samples of a class [P.1]; the server moves the hyper-prototypes
until their own mean gradient is near to it [P.2]. Distances and their derivatives are closed forms, so
nothing has to be differentiated twice.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from fedhpro_flwr.class_means import ClassMeans, count_classes
from fedhpro_flwr.head import Head

MatchingDistance = Literal["cosine", "coordinate", "mse"]
GradientScale = Literal["per-sample", "per-batch"]

EPSILON = 1e-6  # added to every product of norms, in the paper's distance as in the reference's


@dataclass(frozen=True, eq=False)
class ClassGradients:
    """What a client measures of its P classes; row p of every tensor belongs to class_ids[p]."""

    class_ids: Tensor  # [P] int64, ascending, each class once
    by_features: Tensor  # g_k^c [P, D], mean gradient of the cross-entropy with respect to the features
    counts: Tensor  # [P] int64, samples of the class at the client
    by_head_weight: Tensor | None = None  # [P, C, D] mean gradient with respect to W
    by_head_bias: Tensor | None = None  # [P, C] mean gradient with respect to b


def class_gradients(
    features: Tensor,
    labels: Tensor,
    head: Head,
    *,
    counts: Tensor | None = None,
    scale: GradientScale = "per-sample",
    batch_counts: Tensor | None = None,
    head_gradients: bool = False,
) -> ClassGradients:
    """Mean gradient of the cross-entropy per class that is present [P.1] [R.grads].

    Args:
        features: z [n, D], of the model as received, in eval mode. If a class is drawn several times
            (repeats), these are the samples of all draws, one after the other.
        labels: y [n] int64 in 0..C-1.
        head: W, b that the gradients are taken under.
        counts: [C] samples of each class at the client, if the features are a selection of them; else
            the labels are counted.
        scale: "per-sample" is the mean over the samples (paper); "per-batch" divides once more by the samples
            of the class in one draw (reference: the mean over a batch of the gradient of a mean loss).
        batch_counts: [C] samples of each class in one draw; needed only for "per-batch" with repeats.
        head_gradients: also return the mean gradients with respect to W and b (neither is divided twice).

    Raises:
        ValueError: for shapes that do not fit together, a label outside 0..C-1, or an unknown scale.
    """
    if features.ndim != 2 or labels.shape != features.shape[:1]:
        raise ValueError(
            f"features must be [n, D] with labels [n], got {list(features.shape)} and {list(labels.shape)}"
        )
    if features.shape[1] != head.width:
        raise ValueError(f"features are {features.shape[1]} wide but the head takes {head.width}")
    count_classes(labels, head.num_classes)  # refuses a label before anything is looked up by it
    features, head = features.detach(), head.like(features)
    errors = prediction_errors(head.logits(features).softmax(dim=1), labels)  # [n, C]
    found = ClassMeans.of(errors, labels, head.num_classes)
    class_ids, mean_errors, drawn = found.class_ids, found.means, found.counts  # [P], [P, C], [P]
    mean_gradients = mean_errors @ head.weight  # [P.1] (softmax - e_y) W averaged: [P, D]
    if scale == "per-batch":  # [R.grads] W^T (mean softmax - e_c) / n_c
        per_draw = drawn if batch_counts is None else batch_counts.to(drawn)[class_ids]
        mean_gradients = mean_gradients / per_draw[:, None]
    elif scale != "per-sample":
        raise ValueError(f"scale must be 'per-sample' or 'per-batch', got {scale!r}")

    return ClassGradients(
        class_ids=class_ids,
        by_features=mean_gradients,
        counts=drawn if counts is None else counts.to(drawn)[class_ids],
        by_head_weight=_mean_outer_products(errors, features, labels, class_ids, drawn) if head_gradients else None,
        by_head_bias=mean_errors if head_gradients else None,
    )


def prediction_errors(p: Tensor, labels: Tensor) -> Tensor:
    """p - e_y for probabilities p [..., C] and labels y [...]: the cross-entropy's gradient by the logits.

    The label's entry is minus the sum of the others: 1 - p of a sure prediction would be rounding noise.
    """
    own = labels[..., None]
    errors = p.scatter(-1, own, 0.0)
    return errors.scatter_(-1, own, -errors.sum(dim=-1, keepdim=True))


def matching_distance(g: Tensor, target: Tensor, distance: MatchingDistance) -> Tensor:
    """Distance of virtual gradients g [..., D] from the clients' target r [..., D], one number per class: [...].

    "cosine" [P.2]: 1 - r.g / (|r| |g| + eps). "mse": the squared error, summed over D.
    "coordinate" [R.c5]: the sum over d of 1 - r_d g_d / (|r_d| |g_d| + eps), which is what the reference's
    row-wise cosine comes to on a vector: agreement of signs, smoothed by eps.

    Raises:
        ValueError: for an unknown distance.
    """
    if distance == "cosine":
        norms: Tensor = torch.linalg.vector_norm(g, dim=-1) * torch.linalg.vector_norm(target, dim=-1)
        return 1 - (target * g).sum(-1) / (norms + EPSILON)  # [P.2]
    if distance == "coordinate":
        product = target * g
        return (1 - product / (product.abs() + EPSILON)).sum(-1)  # [R.c5]
    if distance == "mse":
        return (g - target).square().sum(-1)
    raise ValueError(f"distance must be 'cosine', 'coordinate' or 'mse', got {distance!r}")


def matching_gradient(g: Tensor, target: Tensor, distance: MatchingDistance) -> Tensor:
    """Derivative of `matching_distance` with respect to g, in closed form: [..., D].

    If g is zero, the derivative of its norm is taken as zero, so the cosine still pulls along the target.

    Raises:
        ValueError: for an unknown distance.
    """
    if distance == "cosine":
        g_norm = torch.linalg.vector_norm(g, dim=-1, keepdim=True)
        target_norm = torch.linalg.vector_norm(target, dim=-1, keepdim=True)
        norms = g_norm * target_norm + EPSILON
        along = (target * g).sum(-1, keepdim=True) / norms * (target_norm / norms)
        unit_g = g / g_norm.clamp_min(torch.finfo(g.dtype).tiny)
        return torch.addcmul(target / -norms, along, unit_g)  # [P.2] -(r n - (r.g) |r| g/|g|) / n^2
    if distance == "coordinate":
        return -EPSILON * target / ((target * g).abs() + EPSILON).square()  # [R.c5]
    if distance == "mse":
        return 2 * (g - target)
    raise ValueError(f"distance must be 'cosine', 'coordinate' or 'mse', got {distance!r}")


def _mean_outer_products(errors: Tensor, features: Tensor, labels: Tensor, class_ids: Tensor, drawn: Tensor) -> Tensor:
    """The gradient with respect to W averaged per class [R.grads], (1/n_c) sum_i e_i z_i^T: [P, C, D]."""
    # One batched product over classes padded to the largest: an outer product per sample would be n C D numbers.
    order = torch.argsort(labels, stable=True)
    row = torch.searchsorted(class_ids, labels[order])  # [n] which class
    first = drawn.cumsum(0) - drawn
    place = torch.arange(len(labels), device=labels.device) - first[row]  # [n] which of its samples
    longest = int(drawn.max()) if len(drawn) else 0
    padded_errors = errors.new_zeros(len(class_ids), longest, errors.shape[1])
    padded_features = features.new_zeros(len(class_ids), longest, features.shape[1])
    padded_errors[row, place] = errors[order] / drawn[row, None]
    padded_features[row, place] = features[order]
    return padded_errors.mT @ padded_features
