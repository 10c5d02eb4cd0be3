"""Whether a method is better than the baseline over the seeds, or there are too few seeds to say so."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

LEVEL = 0.05
FEWEST_PAIRS = 3  # seeds of both; with fewer nothing is claimed
ROUNDING = 1e-9  # of a number: means of the same accuracies in another order differ by less, and are equal


@dataclass(frozen=True)
class Paired:
    """A method against the baseline, seed by seed."""

    difference: float | None  # mean over the seeds that both have; None if there are none
    pairs: int
    better: int  # seeds in which the method is better
    p_value: float | None  # two-sided, uncorrected; None if nothing can be claimed


def paired(values: Sequence[float], baseline: Sequence[float], *, more_is_better: bool = True) -> Paired:
    """A paired t-test; it assumes that the differences over seeds are normal.

    With fewer than three pairs there is no p-value, and neither if all differences are the same and not zero: the test
    divides by their deviation, and accuracies that are counts of few test samples can agree by chance.

    Args:
        values, baseline: of the same seeds, in the same order.
        more_is_better: what counts as better in a seed.
    """
    if not values:
        return Paired(None, 0, 0, None)
    differences = np.subtract(values, baseline)
    mean, rounding = float(differences.mean()), ROUNDING * float(np.abs([*values, *baseline]).max())
    better = int(np.sum((differences if more_is_better else -differences) > rounding))
    p_value = None
    if len(differences) >= FEWEST_PAIRS:
        if np.ptp(differences) > rounding:
            from scipy.stats import ttest_rel

            p_value = float(ttest_rel(values, baseline).pvalue)
        elif abs(mean) <= rounding:
            p_value = 1.0
    return Paired(mean, len(differences), better, p_value)


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Holm's correction for a family of tests. A test without a p-value counts for the family's size and stays None.

    The i-th smallest of m p-values is multiplied by m - i + 1, but is at least the corrected one before it, and at
    most 1 (Holm, Scandinavian Journal of Statistics 1979).
    """
    tests = sorted((value, place) for place, value in enumerate(p_values) if value is not None)
    corrected: list[float | None] = [None] * len(p_values)
    highest = 0.0
    for rank, (value, place) in enumerate(tests):
        highest = max(highest, min(1.0, (len(p_values) - rank) * value))
        corrected[place] = highest
    return corrected
