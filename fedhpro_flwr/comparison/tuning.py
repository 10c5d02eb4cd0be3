"""Chooses for every row the values that did best for it on validation data, in the same way for all, before any test.

A comparison at one learning rate for all is won by the method that the rate suits. The runs that decide are a grid of
their own, with the varied and the tuned values as columns, on seeds that the table does not have.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fedhpro_flwr.comparison.grid import Choices, Chosen, Grid, Place, build_grid
from fedhpro_flwr.comparison.measures import RunNumbers
from fedhpro_flwr.comparison.rows import Column, Row
from fedhpro_flwr.config import ConfigError
from fedhpro_flwr.settings.from_command_line import keys_of, read_settings

SHARE = "data.validation-share"
DEFAULT_SHARE = 0.2
FOLDER = "tuning"  # below the grid's
OF_THE_TASK = ("data.", "partition.", "evaluation.")  # keys that make the task easier or harder, or change its test
DIGITS = 9  # after the point, in percent: means of the same accuracies in another order differ in later ones
FEWEST_VALUES = 3  # numbers tried, so that one lies between others and being at the end means something


class NothingChosenError(RuntimeError):
    """No value can be chosen for a row; the message says for which row and why."""


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
            ConfigError: a key of the task is tuned; a row or a column sets the share of validation samples; clients
                have data of their own; or as `build_grid` does.
        """
        settings = read_settings(conf, changes)
        for key in sorted(keys_of(self.tried[0].changes)):
            if key.startswith(OF_THE_TASK):
                raise ConfigError(f"--tune: {key} is of the task, which all rows share; leave it out")
        for each in (*rows, *(Row(f"--vary {column.label}", column.changes) for column in columns)):
            if SHARE in keys_of(each.changes):
                raise ConfigError(f"{each.label} sets {SHARE}, and --tune chooses on that part: give it by --set")
        if settings["partition.scheme"] == "nodes":
            raise ConfigError("--tune needs validation data, and clients with data of their own have none")
        both = [
            Column(_joined(column, trial), (*column.changes, *trial.changes))
            for column in columns
            for trial in self.tried
        ]
        changes = changes if float(settings[SHARE]) else [*changes, f"{SHARE}={DEFAULT_SHARE}"]
        return build_grid(conf, changes, rows=rows, columns=both, seeds=self.seeds, folder=folder / FOLDER)

    def choose(
        self,
        rows: Sequence[Row],
        columns: Sequence[Column],
        runs: Mapping[Place, RunNumbers],
        missing: Mapping[Place, str],
    ) -> Choices:
        """The combination with the highest accuracy for each row in each column; the first one among equals.

        The accuracy is the mean over the seeds of what rows are compared by. A combination that failed with any seed is
        not chosen.

        Args:
            rows, columns: of the grid that follows.
            runs: the numbers of the finished runs of `grid`.
            missing: why the other runs have none.

        Raises:
            NothingChosenError: there is no such combination for a row.
        """
        return {
            (row.label, column.label): self._choose(row, column, runs, missing) for row in rows for column in columns
        }

    def _choose(
        self, row: Row, column: Column, runs: Mapping[Place, RunNumbers], missing: Mapping[Place, str]
    ) -> Chosen:
        accuracies: dict[Column, tuple[float, ...]] = {}  # of each seed
        failed: dict[Column, str] = {}
        for trial in self.tried:
            places = [(row.label, _joined(column, trial), seed) for seed in self.seeds]
            known = [it for place in places if place in runs and (it := runs[place].headline) is not None]
            if len(known) == len(places):
                accuracies[trial] = tuple(round(accuracy, DIGITS) for accuracy in known)
            else:
                reasons = (missing[place] for place in places if place in missing)
                failed[trial] = next(reasons, "no model of it was tested")
        if not accuracies:
            who = " ".join(filter(None, [row.label, column.label]))
            said = "; ".join(f"{trial.label}: {reason}" for trial, reason in failed.items())
            raise NothingChosenError(f"{who}: there is no value of --tune that can be taken: {said}")
        best = max(accuracies, key=lambda trial: round(statistics.fmean(accuracies[trial]), DIGITS)).changes
        # With each seed, and none failed: then the method may not read the key.
        alike = 1 < len(accuracies) == len(self.tried) and len(set(accuracies.values())) == 1
        ends = () if alike else tuple(change for place, change in enumerate(best) if self._is_end(place, change))
        return Chosen(best, ends, tuple(trial.label for trial in failed), alike)

    def _is_end(self, place: int, change: str) -> bool:
        """Whether the value of the key at this place is the smallest or the largest of several numbers."""
        try:
            numbers = {float(trial.changes[place].partition("=")[2]) for trial in self.tried}
        except ValueError:
            return False  # words have no order
        return len(numbers) >= FEWEST_VALUES and float(change.partition("=")[2]) in (min(numbers), max(numbers))


def _joined(column: Column, trial: Column) -> str:
    return ", ".join(filter(None, [column.label, trial.label]))
