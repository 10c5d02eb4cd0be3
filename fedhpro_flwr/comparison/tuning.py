"""Every row with the values that did best for it on validation data: all rows choose alike, before any test.

A comparison at one learning rate for all is won by the method that the rate suits. The runs of the choice are a grid of
their own, with the varied and the tuned values as columns, on seeds that the table does not have.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fedhpro_flwr.comparison.grid import Choices, Chosen, Grid, Place, build_grid
from fedhpro_flwr.comparison.measures import HEADLINES, RunNumbers
from fedhpro_flwr.comparison.rows import Column, Row
from fedhpro_flwr.config import ConfigError
from fedhpro_flwr.settings.from_command_line import read_settings

SHARE = "data.validation-share"
DEFAULT_SHARE = 0.2
FOLDER = "tuning"  # below the grid's


@dataclass(frozen=True)
class Tuning:
    """What is tried for each row in each column.

    Args:
        tried: the combinations of values.
        seeds: of the runs that decide.
    """

    tried: Sequence[Column]
    seeds: Sequence[int]

    def grid(
        self, conf: str | None, changes: Sequence[str], rows: Sequence[Row], columns: Sequence[Column], folder: Path
    ) -> Grid:
        """The runs that decide, below the folder of the grid; tested on validation data.

        Raises:
            ConfigError: as `build_grid` does.
        """
        share = float(read_settings(conf, changes)[SHARE])
        both = [
            Column(_joined(column, trial), (*column.changes, *trial.changes))
            for column in columns
            for trial in self.tried
        ]
        changes = changes if share else [*changes, f"{SHARE}={DEFAULT_SHARE}"]
        return build_grid(conf, changes, rows=rows, columns=both, seeds=self.seeds, folder=folder / FOLDER)

    def choose(
        self,
        rows: Sequence[Row],
        columns: Sequence[Column],
        runs: Mapping[Place, RunNumbers],
        missing: Mapping[Place, str],
    ) -> Choices:
        """The combination with the highest accuracy for each row in each column; the first one among equals.

        The accuracy is the mean over the seeds of what rows are compared by. A combination that failed with any of them
        is not chosen.

        Args:
            rows, columns: of the grid that follows.
            runs: the numbers of the finished runs of `grid`.
            missing: why others have none.

        Raises:
            ConfigError: all combinations failed for a row.
        """
        chosen: dict[tuple[str, str], Chosen] = {}
        for row in rows:
            for column in columns:
                accuracies: dict[Column, float] = {}
                for trial in self.tried:
                    places = [(row.label, _joined(column, trial), seed) for seed in self.seeds]
                    if all(place in runs for place in places):
                        accuracies[trial] = statistics.fmean(headline(runs[place]) for place in places)
                if not accuracies:
                    why = next(reason for (label, _, _), reason in missing.items() if label == row.label)
                    raise ConfigError(f"{row.label}: no run of --tune ended well, so nothing can be chosen ({why})")
                best = max(accuracies, key=accuracies.__getitem__).changes
                chosen[row.label, column.label] = Chosen(best, any(map(self._is_end, range(len(best)), best)))
        return chosen

    def _is_end(self, place: int, change: str) -> bool:
        """Whether the value of the key at this place is the smallest or the largest of several numbers."""
        try:
            numbers = {float(trial.changes[place].partition("=")[2]) for trial in self.tried}
        except ValueError:
            return False  # words have no order
        return len(numbers) > 1 and float(change.partition("=")[2]) in (min(numbers), max(numbers))


def headline(run: RunNumbers) -> float:
    """What a run is compared by, in percent.

    Raises:
        StopIteration: never: each finished run has one of them.
    """
    return next(run.values[key] for key in HEADLINES if key in run.values)


def _joined(column: Column, trial: Column) -> str:
    return ", ".join(filter(None, [column.label, trial.label]))
