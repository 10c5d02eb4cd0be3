"""The grid in numbers: each measure of each row in each column, over the seeds and compared with the baseline."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from fedhpro_flwr.comparison.grid import Choices, Grid, Place
from fedhpro_flwr.comparison.measures import CLIENTS, OWN, TARGET, Measure, RunNumbers, in_order, measure_of, rounds_to
from fedhpro_flwr.comparison.rows import Row
from fedhpro_flwr.comparison.significance import FEWEST_PAIRS, LEVEL, ROUNDING, Paired, holm, paired
from fedhpro_flwr.config import ConfigError

PREFERRED_BASELINE = "fedavg"


@dataclass(frozen=True)
class Entry:
    """One measure of one row in one column. The deviation is the sample deviation (n - 1) over seeds."""

    row: Row
    column: str
    measure: Measure
    mean: float | None  # None: no run has it, or not all reach the target
    deviation: float | None  # None for a single run
    runs: int  # number of runs that have the measure; for the rounds to the target, that reach it
    seeds: int  # of the grid
    against: Paired | None  # None for the baseline itself, and for rows with its settings
    p_corrected: float | None = None  # by Holm, over the rows of one group in the column
    is_best: bool = False  # of the column

    @property
    def is_significant(self) -> bool:
        """Whether it differs from the baseline at 5 percent, after correction."""
        return self.p_corrected is not None and self.p_corrected < LEVEL

    @property
    def is_better(self) -> bool:
        """Whether the mean difference from the baseline is in the better direction of the measure."""
        difference = (self.against.difference if self.against else None) or 0.0
        return difference > 0 if self.measure.more_is_better else difference < 0


@dataclass(frozen=True)
class Table:
    """All entries, and what they are compared with."""

    rows: Sequence[Row]
    columns: Sequence[str]
    seeds: Sequence[int]
    baseline: str
    targets: Mapping[str, float]  # percent, by column; a column without runs of the baseline may have none
    entries: Mapping[tuple[str, str, str], Entry]  # labels of row and column, key of the measure
    fewest_tested: int  # tested rounds of the run that has the fewest
    tested_on: Sequence[str] = ()  # what its runs were tested on: test data, validation data, or both among them
    chosen: Choices = field(default_factory=dict)

    def runs(self, row: str, column: str) -> int:
        """Number of finished runs of a row in a column: those that have seconds, as every run does."""
        entry = self.entries.get((row, column, "seconds"))
        return entry.runs if entry else 0

    @property
    def measures(self) -> list[Measure]:
        """The measures that any run has, in the order of a paper's table."""
        return in_order({key for (_, _, key), entry in self.entries.items() if entry.runs or key == TARGET})


def baseline_of(rows: Sequence[Row], wanted: str | None) -> str:
    """The row that the others are compared with: the wanted one, or fedavg if there is one, or the first.

    Raises:
        ConfigError: the wanted one is no row; the message lists them.
    """
    labels = [row.label for row in rows]
    if wanted is None:
        return PREFERRED_BASELINE if PREFERRED_BASELINE in labels else labels[0]
    if wanted not in labels:
        raise ConfigError(f"--baseline {wanted} is no row of this grid, there are: {', '.join(labels)}")
    return wanted


def build_table(grid: Grid, runs: Mapping[Place, RunNumbers], baseline: str, target: float | None = None) -> Table:
    """Means, deviations, differences and tests.

    Args:
        grid: what was asked for.
        runs: the numbers of its finished runs.
        baseline: label of the row to compare with.
        target: accuracy in percent; left out, each column's is the baseline's mean of the last ten rounds over seeds.
    """
    columns = [column.label for column in grid.columns]
    targets: dict[str, float] = {}
    values: dict[tuple[str, str, str], dict[int, float]] = {}
    for column in columns:
        base = [run for seed in grid.seeds if (run := runs.get((baseline, column, seed)))]
        if reached := target if target is not None else _default_target(base):
            targets[column] = reached
        for row in grid.rows:
            for seed in grid.seeds:
                run = runs.get((row.label, column, seed))
                for key, value in _numbers(run, targets.get(column), base).items():
                    values.setdefault((row.label, column, key), {})[seed] = value
    keys = dict.fromkeys([TARGET, *(key for _, _, key in values)])
    entries: dict[tuple[str, str, str], Entry] = {}
    for column in columns:
        tested_on = {(row, seed): run.tested_on for (row, where, seed), run in runs.items() if where == column}
        for key in keys:
            found = {row.label: values.get((row.label, column, key), {}) for row in grid.rows}
            for entry in _column(grid, column, measure_of(key), found, tested_on, baseline):
                entries[entry.row.label, column, key] = entry
    judged = [run for run in runs.values() if run.accuracy_of != CLIENTS] or list(runs.values())
    fewest = min((len(run.curve) for run in judged), default=0)
    parts = sorted({run.tested_on for run in runs.values()})
    return Table(grid.rows, columns, grid.seeds, baseline, targets, entries, fewest, parts, grid.chosen)


def _default_target(base: Sequence[RunNumbers]) -> float | None:
    tails = [
        run.values[key] for run in base for key in ("mean-of-last-ten", f"{OWN}mean-of-last-ten") if key in run.values
    ]
    return statistics.fmean(tails) if tails else None


def _numbers(run: RunNumbers | None, target: float | None, base: Sequence[RunNumbers]) -> dict[str, float]:
    """A run's numbers, with its rounds to the target if its accuracy is of the same kind as the baseline's."""
    if run is None:
        return {}
    of = (run.accuracy_of, run.tested_on)
    comparable = not base or of == (base[0].accuracy_of, base[0].tested_on)
    reached = rounds_to(run.curve, target) if target is not None and comparable else None
    return dict(run.values) | ({TARGET: reached} if reached is not None else {})


def _column(
    grid: Grid,
    column: str,
    measure: Measure,
    found: Mapping[str, Mapping[int, float]],
    tested_on: Mapping[tuple[str, int], str],
    baseline: str,
) -> Iterable[Entry]:
    """The entries of one measure in a column: `found` by row and seed, `tested_on` of each of these runs."""
    entries = []
    for row in grid.rows:
        values = found[row.label]
        numbers = list(values.values())
        whole = len(numbers) == len(grid.seeds) or measure.key != TARGET  # a mean of those that reach it would flatter
        against = None
        if any(grid.cells[row.label, column, seed] is not grid.cells[baseline, column, seed] for seed in grid.seeds):
            both = [
                seed
                for seed in values
                if seed in found[baseline] and tested_on[row.label, seed] == tested_on[baseline, seed]
            ]
            against = paired(
                [values[seed] for seed in both],
                [found[baseline][seed] for seed in both],
                more_is_better=measure.more_is_better,
            )
        entries.append(
            Entry(
                row,
                column,
                measure,
                mean=statistics.fmean(numbers) if numbers and whole else None,
                deviation=statistics.stdev(numbers) if len(numbers) > 1 and whole else None,
                runs=len(numbers),
                seeds=len(grid.seeds),
                against=against,
            )
        )
    corrected: dict[str, float | None] = {}
    for group in dict.fromkeys(row.group for row in grid.rows):
        asked = [entry for entry in entries if entry.row.group == group and measure.is_tested]
        family = [entry for entry in asked if entry.against and entry.against.pairs >= FEWEST_PAIRS]
        tests = holm([entry.against.p_value if entry.against else None for entry in family])
        corrected |= dict(zip([entry.row.label for entry in family], tests, strict=True))
    means = {entry.row.label: entry.mean for entry in entries if entry.mean is not None and entry.runs == entry.seeds}
    best = (max if measure.more_is_better else min)(means.values(), default=math.nan)
    firsts = [label for label, mean in means.items() if math.isclose(mean, best, rel_tol=ROUNDING)]
    return [
        replace(
            entry,
            p_corrected=corrected.get(entry.row.label),
            is_best=entry.row.label in firsts and len(firsts) < len(means),
        )
        for entry in entries
    ]
