"""How far prototypes are from the class means of a centrally trained model, and how far they move.

Source: the publication of FedHPro (arXiv 2605.13475) measures semantic drift as the distance of global prototypes from
the class means of a model trained on all data in one place.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional as F

from fedhpro_flwr.config import ConfigError
from fedhpro_flwr.runs.run_folder import PROTOTYPES_FILE

Curve = list[tuple[int, float]]  # (round, value)
Distance = Callable[[Tensor, Tensor, Tensor], float | None]  # a [C, D], b [C, D], mask [C] -> mean over the classes


@dataclass(frozen=True, eq=False)
class Trace:
    """Prototypes of a run round by round, as prototypes.safetensors keeps them."""

    vectors: Tensor  # [R, C, D] float32
    known: Tensor  # [R, C] bool
    rounds: Tensor  # [R] int64

    @classmethod
    def read(cls, folder: Path) -> Trace | None:
        """Read the prototypes from a run's folder; None if the run kept none.

        Raises:
            ConfigError: the file is damaged.
        """
        path = folder / PROTOTYPES_FILE
        if not path.exists():
            return None
        try:
            tensors = load_file(path)
            return cls(tensors["prototypes"], tensors["known"], tensors["rounds"])
        except (SafetensorError, KeyError) as error:
            raise ConfigError(f"{path} is damaged ({error}); remove it, or run again") from None


def cosine_distance(a: Tensor, b: Tensor, mask: Tensor) -> float | None:
    """Mean over the classes in `mask` of 1 - cos(a_c, b_c): a, b [C, D], mask [C]; None for no class."""
    return _mean(1 - F.cosine_similarity(a.double(), b.double(), dim=1), mask)


def relative_distance(a: Tensor, b: Tensor, mask: Tensor) -> float | None:
    """Mean over the classes in `mask` of |a_c - b_c| / |b_c|: a, b [C, D], mask [C]; None for no class."""
    a, b = a.double(), b.double()
    size = torch.linalg.vector_norm(b, dim=1)
    return _mean(torch.linalg.vector_norm(a - b, dim=1) / size, mask & (size > 0))


def structure_distance(a: Tensor, b: Tensor, mask: Tensor) -> float | None:
    """Mean over pairs c < d of classes in `mask` of |cos(a_c, a_d) - cos(b_c, b_d)|; None for fewer than two.

    Unlike the other two it does not change when one of the feature spaces is rotated, as two networks' are against
    each other.
    """
    a, b = F.normalize(a[mask].double(), dim=1), F.normalize(b[mask].double(), dim=1)
    pairs = torch.triu_indices(len(a), len(a), offset=1)
    if pairs.shape[1] == 0:
        return None
    between = (a @ a.T - b @ b.T).abs()  # [P, P]
    return float(between[pairs[0], pairs[1]].mean())


def distances_to(trace: Trace, means: Tensor, known: Tensor, distance: Distance) -> Curve:
    """Distance of the prototypes of each kept round to `means` [C, D], over classes that both know.

    Args:
        trace: prototypes of a run.
        means: class means of the central model [C, D].
        known: classes that the central model saw [C].
        distance: which of the above.

    Raises:
        ValueError: prototypes and means have different shapes.
    """
    if trace.vectors.shape[1:] != means.shape:
        raise ValueError(
            f"prototypes are {list(trace.vectors.shape[1:])}, the central class means {list(means.shape)}; "
            "they must be of one feature space"
        )
    values = [distance(vectors, means, mask & known) for vectors, mask in zip(trace.vectors, trace.known, strict=True)]
    return [(int(r), value) for r, value in zip(trace.rounds, values, strict=True) if value is not None]


def movement(trace: Trace, distance: Distance) -> Curve:
    """Distance of the prototypes of each kept round from those of the kept round before, over classes known in both.

    If the last kept round came sooner than the others did, it is left out: all would seem to come to rest.
    """
    gaps = trace.rounds.diff()
    pairs = zip(
        trace.vectors[1:], trace.vectors[:-1], trace.known[1:] & trace.known[:-1], gaps >= gaps[:1], strict=True
    )
    values = [distance(now, before, mask) if even else None for now, before, mask, even in pairs]
    return [(int(r), value) for r, value in zip(trace.rounds[1:], values, strict=True) if value is not None]


def _mean(values: Tensor, mask: Tensor) -> float | None:
    return float(values[mask].mean()) if bool(mask.any()) else None
