"""Mean and deviation over the seeds of a group."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Spread:
    """A mean over seeds."""

    mean: float
    deviation: float | None  # of a sample (n - 1 in the denominator); None for one seed

    @classmethod
    def of(cls, values: Iterable[float | None]) -> Spread | None:
        """Over the values that were measured; None if none was."""
        known = [value for value in values if value is not None]
        if not known:
            return None
        return cls(statistics.fmean(known), statistics.stdev(known) if len(known) > 1 else None)

    @property
    def low(self) -> float:
        """One deviation below the mean."""
        return self.mean - (self.deviation or 0.0)

    @property
    def high(self) -> float:
        """One deviation above it."""
        return self.mean + (self.deviation or 0.0)


def band(curves: Sequence[Sequence[tuple[int, float]]]) -> list[tuple[int, Spread]]:
    """Mean and deviation over curves of (round, value), at every round that any of them has.

    If some runs stopped early, later rounds are means over those that got there.
    """
    values: dict[int, list[float]] = {}
    for curve in curves:
        for server_round, value in curve:
            values.setdefault(server_round, []).append(value)
    return [(server_round, found) for server_round in sorted(values) if (found := Spread.of(values[server_round]))]


def spread_by_name(tables: Sequence[Mapping[str, float | None]]) -> dict[str, Spread]:
    """Mean and deviation of named values, like accuracy by domain or bytes by record, over the tables that have them.

    Names come in the order of their first appearance.
    """
    names = dict.fromkeys(name for table in tables for name in table)
    return {name: found for name in names if (found := Spread.of(table.get(name) for table in tables))}
