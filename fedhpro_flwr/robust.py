r"""Sums over clients of which some may be hostile: coordinate-wise median and trimmed mean, and norm clipping.

Median and trimmed mean: Yin et al., Byzantine-Robust Distributed Learning: Towards Optimal Statistical Rates, ICML
2018, definitions 1 and 2. Norm clipping: Sun et al., Can You Really Backdoor Federated Learning?, 2019, section 5.

.. math::
    \mathrm{trmean}_k(x_1 \dots x_m)_j = \frac{1}{m - 2k} \sum_{i=k+1}^{m-k} x_{(i)j}, \qquad
    \mathrm{clip}_M(\Delta) = \Delta \, \min(1, M / |\Delta|)

with x_(i)j the i-th smallest value of coordinate j. The median is the trimmed mean with the largest k that leaves
something: the middle number, or the mean of the two middle ones. Both count each client once: its number of samples is
only what it claims.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor

from fedhpro_flwr.aggregation import RUNNING_STATISTICS

Statistic = Literal["mean", "median", "trimmed-mean"]


def middle_mean(values: Tensor, held: Tensor, cut: Tensor) -> Tensor:
    """Coordinate by coordinate, the mean of what is left after the `cut` smallest and largest are taken away.

    Args:
        values: [N, G, ...], of N clients for each of G classes; finite wherever `held`.
        held: [N, G] bool, which client holds which class.
        cut: [G] int64, k of each class, below half of the clients that hold it.

    Returns:
        [G, ...] in the dtype of `values`, zero for a class that nobody holds. The sums are float64 and go from small to
        large values, so the order of the clients does not change a single bit.
    """
    shape = (*held.shape, *[1] * (values.ndim - 2))
    ordered = values.masked_fill(~held.view(shape), torch.inf).sort(dim=0).values  # those not held come last
    place = torch.arange(len(values), device=values.device)[:, None]  # [N, 1]
    holders = held.sum(dim=0)  # [G]
    kept = (place >= cut) & (place < holders - cut)  # [N, G]
    summed = torch.zeros(values.shape[1:], dtype=torch.float64, device=values.device)
    for row, chosen in zip(ordered, kept, strict=True):  # a client at a time: N float64 copies at once are too many
        summed += row.masked_fill(~chosen.view(shape[1:]), 0.0)
    return (summed / kept.sum(dim=0).clamp(min=1).view(shape[1:])).to(values.dtype)


def cut_of(statistic: Statistic, holders: Tensor, trim: float) -> Tensor:
    """k of each class [G] that `holders` [G] clients hold: how many a statistic takes away at each end.

    A share of the clients is rounded up, so that a class with three clients is trimmed by one and not by none; at least
    one client stays, or two if their number is even.
    """
    most = (holders - 1).clamp(min=0) // 2
    if statistic == "mean":
        return torch.zeros_like(holders)
    if statistic == "median":
        return most
    # 0.2 * 15 is a little more than 3 in floating point.
    return torch.minimum(torch.ceil((trim * holders.double()).round(decimals=9)).to(holders), most)


def middle_model(models: Sequence[Mapping[str, Tensor]], statistic: Statistic, trim: float) -> dict[str, Tensor]:
    """The statistic of every floating tensor of the clients' models, in its dtype; each client counts once.

    Integer buffers (BatchNorm's batch counters) take the lower median: `weighted_mean` takes the largest, which a
    single client could set at will. Variances stay >= 0, as every statistic lies between the clients' numbers.
    """
    holders = torch.tensor([len(models)])
    cut = cut_of(statistic, holders, trim)
    middle: dict[str, Tensor] = {}
    for name, first in models[0].items():
        entries = torch.stack([model[name].detach() for model in models])
        if first.is_floating_point():
            held = torch.ones(len(models), 1, dtype=torch.bool, device=first.device)
            middle[name] = middle_mean(entries[:, None], held, cut.to(first.device))[0]
        else:
            middle[name] = entries.sort(dim=0).values[(len(models) - 1) // 2]
    return middle


def update_norms(model: Mapping[str, Tensor], sent: Mapping[str, Tensor]) -> tuple[float, float]:
    """|w_k - w| of a model's weights, and of its running statistics (BatchNorm's), in float64.

    Two lengths: statistics have the data's units and would dominate a single one, in which weights could move at will.
    """
    squares: tuple[list[float], list[float]] = ([], [])
    for name, tensor in model.items():
        if tensor.is_floating_point():
            moved = tensor.double() - sent[name].to(tensor).double()
            squares[name.endswith(RUNNING_STATISTICS)].append(float(torch.linalg.vector_norm(moved)) ** 2)
    weights, running = (math.sqrt(math.fsum(each)) for each in squares)
    return weights, running


def shrink_factors(norms: Tensor, held: Tensor, *, longest: float = math.inf, to_median: bool = False) -> Tensor:
    """min(1, M / norm) for every client and class [N, G], with M the smaller of `longest` and the clients' median.

    Args:
        norms: [N, G] float64; for models G = 2, the two vectors of `update_norms`.
        held: [N, G] bool, which norms count for the median; a zero does not, as a client that moved nothing has no say
            in how far others may move. Of an even number the lower middle one is taken.
        longest: the given bound on M.
        to_median: whether the median of a class's clients is a bound too.
    """
    bound = torch.full(norms.shape[1:], longest, dtype=norms.dtype, device=norms.device)
    if to_median:
        moved = held & (norms > 0)
        ordered = norms.masked_fill(~moved, torch.inf).sort(dim=0).values
        middle = (moved.sum(dim=0) - 1).clamp(min=0) // 2  # [G]
        bound = torch.minimum(bound, ordered.gather(0, middle[None])[0])
    return torch.where(norms > bound, bound / norms, 1.0)


def clipped_models(
    models: Sequence[Mapping[str, Tensor]],
    sent: Mapping[str, Tensor],
    *,
    longest: float = math.inf,
    to_median: bool = False,
) -> list[Mapping[str, Tensor]]:
    """w + min(1, M / |w_k - w|) (w_k - w) for every client; a model within the bound stays as it is, bit for bit.

    Weights and running statistics are two vectors: each has a length, a median and a factor of its own.

    Args:
        models: w_k of each client.
        sent: w, which they received.
        longest: M.
        to_median: M is at most the median of the clients' norms.
    """
    norms = torch.tensor([update_norms(model, sent) for model in models], dtype=torch.float64)  # [N, 2]
    factors = shrink_factors(norms, torch.ones_like(norms, dtype=torch.bool), longest=longest, to_median=to_median)
    clipped: list[Mapping[str, Tensor]] = []
    for model, own in zip(models, factors.tolist(), strict=True):
        near = {
            name: _nearer(tensor, sent[name], own[name.endswith(RUNNING_STATISTICS)]) for name, tensor in model.items()
        }
        clipped.append(model if own == [1.0, 1.0] else near)
    return clipped


def _nearer(tensor: Tensor, sent: Tensor, factor: float) -> Tensor:
    if factor == 1.0 or not tensor.is_floating_point():
        return tensor
    before = sent.to(tensor).double()
    return (before + factor * (tensor.double() - before)).to(tensor.dtype)
