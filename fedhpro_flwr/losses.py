"""The two local losses against the hyper-prototypes, and the client's margin.

HPCL pulls a feature towards the hyper-prototypes of its class and away from the others' by a margin [P.3]
[R.hpcl]; HPAL aligns it with the mean of its class [P.4] [R.hpal]. The client minimises CE + HPCL + HPAL, all
weights 1 [P.5].
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from fedhpro_flwr.class_means import ClassMeans
from fedhpro_flwr.hyper_prototypes import mean_over_slots
from fedhpro_flwr.margin_contrast import distances

HpclForm = Literal["paper", "reference"]
HpalForm = Literal["paper", "unit", "reference"]
MarginReading = Literal["l2", "l2-unit", "inner", "none"]
MarginPairs = Literal["same", "far", "near"]


@dataclass(frozen=True, eq=False)
class Anchors:
    """What the losses need of S [C, K, D], computed once a visit because S is constant during it.

    If classes have different numbers of vectors, a mean over K is over a class's own ones (hyper_prototypes.py).
    """

    directions: Tensor  # A [C, D], mean over K of the unit vectors: z^ . A_c is the mean of K cosines
    means: Tensor  # H [C, D], mean over K of the vectors
    unit_means: Tensor  # V [C, D], H scaled to unit length

    @classmethod
    def of(cls, vectors: Tensor) -> Anchors:
        """Anchors of hyper-prototypes S [C, K, D], without a gradient."""
        vectors = vectors.detach()
        means = mean_over_slots(vectors, vectors)
        directions = mean_over_slots(F.normalize(vectors, dim=-1), vectors)
        return cls(directions, means, F.normalize(means, dim=-1))


def hpcl(
    z: Tensor,
    labels: Tensor,
    anchors: Anchors,
    *,
    temperature: float,
    margin: float | Tensor = 0.0,
    form: HpclForm = "paper",
    offsets: Tensor | None = None,
) -> Tensor:
    """Hyper-prototype contrastive loss of a batch: z [B, D], y [B] -> scalar.

    With s_j = z^ . A_j, the mean cosine similarity of a sample with class j:
    "paper" [P.3]: mean_i log(1 + sum_{j != y} exp((s_j + margin) / t) / exp(s_y / t));
    "reference" [R.hpcl]: (1/B) mean_i [log(sum_j exp(s_j / t) + margin) - s_y / t].
    Both are one cross-entropy, so no exponential ever overflows. A tensor of margins [C, C] has one for each pair
    (label, other class) and zeros on its diagonal; only "paper" takes it. Offsets [C] are added to s / t of every
    sample (logit_adjustment.py).

    Raises:
        ValueError: the margin is negative or not finite, margins of pairs come with another form, or an unknown form.
    """
    if isinstance(margin, Tensor):
        if form != "paper":  # their values are not looked at: that would make every step wait for the device
            raise ValueError(f"margins of pairs need the form 'paper', got {form!r}")
        similarity = (F.normalize(z, dim=1) @ anchors.directions.T + margin[labels]) / temperature
        return F.cross_entropy(similarity if offsets is None else similarity + offsets, labels)  # [P.3] with d_k^{y,j}
    if not 0.0 <= margin < math.inf:
        raise ValueError(f"margin must be >= 0 and finite, got {margin}")
    similarity = F.normalize(z, dim=1) @ anchors.directions.T / temperature  # s / t [B, C]
    if offsets is not None:
        similarity = similarity + offsets
    if form == "paper":
        if margin:
            # Lowering the label's own logit lifts all the others above it by as much.
            own = labels[:, None] == torch.arange(similarity.shape[1], device=labels.device)
            similarity = similarity - own.to(similarity) * (margin / temperature)
        return F.cross_entropy(similarity, labels)  # [P.3]
    if form == "reference":
        if margin:
            # The margin is one more term of the sum: a class that no sample has, with logit log(margin).
            similarity = F.pad(similarity, (0, 1), value=math.log(margin))
        return F.cross_entropy(similarity, labels) / len(labels)  # [R.hpcl]
    raise ValueError(f"form must be 'paper' or 'reference', got {form!r}")


def hpal(z: Tensor, labels: Tensor, anchors: Anchors, *, form: HpalForm = "paper") -> Tensor:
    """Hyper-prototype alignment loss of a batch: z [B, D], y [B] -> scalar; huber has delta = 1.

    "paper" [P.4]: mean_i sum_q huber(z_iq - H_q^y); "unit": the same with z and H scaled to unit length;
    "reference" [R.hpal]: as "unit", but with the mean over q for the sum, hence at most 2 / D.

    Raises:
        ValueError: for an unknown form.
    """
    if form == "paper":
        return F.smooth_l1_loss(z, anchors.means[labels], reduction="sum") / len(labels)  # [P.4]
    if form == "unit":
        unit_z = F.normalize(z, dim=1)
        return F.smooth_l1_loss(unit_z, anchors.unit_means[labels], reduction="sum") / len(labels)
    if form == "reference":
        return F.smooth_l1_loss(F.normalize(z, dim=1), anchors.unit_means[labels])  # [R.hpal]
    raise ValueError(f"form must be 'paper', 'unit' or 'reference', got {form!r}")


def client_margin(features: Tensor, labels: Tensor, num_classes: int, reading: MarginReading = "l2") -> Tensor:
    """How far apart a client's classes lie: features [n, D], y [n] -> a scalar >= 0 (see "inner").

    With p_a the mean feature of a class that is present, and the sums over ordered pairs of two present
    classes:
    "l2" [P.3]: sum |p_a - p_b| / (C - 1)^2; "l2-unit": the same with p scaled to unit length;
    "inner" [R.margin]: sum p_a . p_b / (C - 1)^2, which features of both signs can make negative; "none": 0.
    A client of one class has the margin 0.

    Raises:
        ValueError: for a label outside 0..C-1 or an unknown reading.
    """
    return _margin(ClassMeans.of(features, labels, num_classes), num_classes, reading)


def _margin(found: ClassMeans, num_classes: int, reading: MarginReading) -> Tensor:
    class_means = found.means
    if reading == "none" or len(class_means) < 2:
        return class_means.new_zeros(())
    pairs = (num_classes - 1) ** 2
    if reading == "l2":
        return _sum_of_distances(class_means) / pairs  # [P.3]
    if reading == "l2-unit":
        return _sum_of_distances(F.normalize(class_means, dim=1)) / pairs  # [P.3]
    if reading == "inner":
        # Summed pair by pair: |sum p|^2 - sum |p|^2 may round below zero even if no term is negative.
        return (class_means @ class_means.T).fill_diagonal_(0).sum() / pairs  # [R.margin]
    raise ValueError(f"margin must be read as 'l2', 'l2-unit', 'inner' or 'none', got {reading!r}")


def pair_margins(
    features: Tensor, labels: Tensor, num_classes: int, reading: MarginReading, pairs: MarginPairs
) -> Tensor:
    """The client's margin d_k spread over pairs of its classes: features [n, D], y [n] -> [C, C], its diagonal zero.

    An extension, in no publication. With r_ab the distance of two class means, divided by the mean of these distances:
    "far" d_k r_ab, "near" d_k max(2 - r_ab, 0), "same" d_k. The mean over the pairs is d_k each time (for "near" up to
    the clamp), so only the spread differs; a pair with a class that the client lacks gets d_k itself.

    Raises:
        ValueError: for a reading that is no distance, or a label outside 0..C-1.
    """
    if reading not in ("l2", "l2-unit"):
        raise ValueError(f"margins of pairs need a margin read as 'l2' or 'l2-unit', got {reading!r}")
    found = ClassMeans.of(features, labels, num_classes)
    margin = _margin(found, num_classes, reading)
    spread = torch.ones(num_classes, num_classes, dtype=features.dtype, device=features.device)
    present, means = found.class_ids, found.means
    if len(present) >= 2 and pairs != "same":
        points = means if reading == "l2" else F.normalize(means, dim=1)
        apart = distances(points, points)  # [P, P]
        mean = apart.sum() / (len(present) * (len(present) - 1))
        relative = apart / mean.clamp_min(torch.finfo(points.dtype).tiny)
        spread[present[:, None], present] = relative if pairs == "far" else (2 - relative).clamp_min(0)
    return margin * spread.fill_diagonal_(0)


def _sum_of_distances(points: Tensor) -> Tensor:
    return distances(points, points).sum()  # over ordered pairs
