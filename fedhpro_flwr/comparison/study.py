"""A whole grid: check it, run what is not finished, tell the progress, and write the table."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from fedhpro_flwr.commands import FAILED, OK
from fedhpro_flwr.commands.complaint import complain, say
from fedhpro_flwr.comparison.child_process import locked
from fedhpro_flwr.comparison.finished import of_other_samples, unfinished
from fedhpro_flwr.comparison.grid import Grid, Place
from fedhpro_flwr.comparison.measures import RunNumbers, read_numbers
from fedhpro_flwr.comparison.panels import NOTHING, Panel, notes, panels
from fedhpro_flwr.comparison.table import Table, build_table
from fedhpro_flwr.comparison.table_files import runs_elsewhere, write_files
from fedhpro_flwr.comparison.table_text import terminal
from fedhpro_flwr.comparison.workers import Outcome, run_cells
from fedhpro_flwr.config import ConfigError, RunConfig
from fedhpro_flwr.listed import ten_of
from fedhpro_flwr.writable import make_folder

UNREADABLE = (OSError, ValueError, LookupError, TypeError, AttributeError)  # raised by files that somebody has changed


@dataclass(frozen=True)
class Study:
    """The results of a grid.

    Args:
        runs: the numbers of its finished runs.
        missing: why the other runs have none.
    """

    runs: Mapping[Place, RunNumbers]
    missing: Mapping[Place, str]

    @property
    def status(self) -> int:
        """The exit status."""
        return FAILED if self.missing else OK


def run_study(
    grid: Grid,
    arguments: Sequence[str],
    console: Console,
    *,
    baseline: str,
    target: float | None,
    jobs: int,
    keep_workers: bool,
    refuse: Callable[[RunConfig], None],
    shown: Callable[[Table], Sequence[Panel]] = panels,
) -> Study:
    """Run a grid and write its tables.

    Args:
        grid: all runs, checked.
        arguments: of `fedhpro run`, after its CONF.
        console: where every finished run is told, and the table is shown.
        baseline: label of the row to compare with.
        target: accuracy in percent, for the rounds to reach it; None for the baseline's.
        jobs: runs at a time.
        keep_workers: whether a process runs several of them.
        refuse: raises ConfigError for the settings of a run that cannot be started on this machine.
        shown: which panels the console gets; the files have all.

    Raises:
        ConfigError: a folder holds a finished run of other settings, somebody else works in the grid's folder, or it
            cannot be made or written; or a run is refused.
    """
    make_folder(grid.folder, f"--folder {grid.folder}")
    with locked(grid.folder) as lock:
        waiting = unfinished(grid.runs)
        for cell in waiting:
            try:
                refuse(cell.config)
            except ConfigError as error:
                raise ConfigError(f"{cell.name}: {error}; nothing was started") from None
        say(console, f"{len(grid.runs)} runs, {len(waiting)} to do; tables and runs in {grid.folder}")
        progress = Progress(console, len(grid.runs), len(grid.runs) - len(waiting))
        outcomes = run_cells(waiting, arguments, jobs=jobs, lock=lock, tell=progress.tell, keep=keep_workers)
        failures = {outcome.cell.folder: outcome.failure for outcome in outcomes if outcome.failure}
        runs, missing = read_runs(grid, failures)
        table = build_table(grid, runs, baseline, target)
        elsewhere = runs_elsewhere(grid)
        write_files(grid, table, runs, missing)
    for panel in shown(table):
        console.print()
        console.print(terminal(panel))
    say(console, "\n" + "\n".join(notes(table)))
    for outcome in outcomes:
        if outcome.failure:
            complain(f"failed: {outcome.cell.name}: {outcome.failure}")
    for cell in grid.runs:
        place = (cell.row, cell.column, cell.seed)
        if place in missing and cell.folder not in failures:
            complain(f"left out: {cell.name}: {missing[place]}")
    say(console, f"tables in {grid.folder}: table.md, table.tex, table.csv, runs.csv")
    if elsewhere:
        say(
            console,
            f"those before had runs that these have not ({ten_of(elsewhere)}): the runs stay, "
            "and the command that made those tables writes them again at once",
        )
    return Study(runs, missing)


def read_runs(grid: Grid, failures: Mapping[Path, str]) -> tuple[dict[Place, RunNumbers], dict[Place, str]]:
    """The numbers of the finished runs, and why the others have none; `failures` by folder."""
    numbers: dict[Path, RunNumbers] = {}
    reasons = of_other_samples(grid.runs) | dict(failures)
    for cell in grid.runs:
        if cell.folder in reasons:
            continue
        try:
            numbers[cell.folder] = read_numbers(cell.folder, cell.config.rounds)
        except UNREADABLE as error:
            said = str(error) if type(error) in (OSError, ValueError) else f"{type(error).__name__}: {error}"
            reasons[cell.folder] = f"{cell.folder} is damaged ({said}); delete it to have it run again"
    runs = {place: numbers[cell.folder] for place, cell in grid.cells.items() if cell.folder in numbers}
    return runs, {place: reasons[cell.folder] for place, cell in grid.cells.items() if cell.folder in reasons}


class Progress:
    """A line for each run that ends, with an estimate of the time left."""

    def __init__(self, console: Console, total: int, done: int) -> None:
        self.console, self.total, self.done = console, total, done
        self.here, self.began = 0, time.monotonic()

    def tell(self, outcome: Outcome) -> None:
        """One run has ended."""
        self.done, self.here = self.done + 1, self.here + 1
        cell = outcome.cell
        said = f"{self.done}/{self.total} {cell.config.experiment} {cell.name}: "
        said += f"failed: {outcome.failure}" if outcome.failure else headline(cell.folder)
        said += f" ({outcome.seconds:.0f} s{f', went on after round {outcome.after}' if outcome.after else ''})"
        if left := self.total - self.done:
            said += f", about {duration(left * (time.monotonic() - self.began) / self.here)} left"
        say(self.console, said, style="red" if outcome.failure else "")


def headline(folder: Path) -> str:
    """What the run in a folder is compared by."""
    try:
        accuracy = read_numbers(folder).headline
    except UNREADABLE:
        return NOTHING  # the reason is beside the table
    return NOTHING if accuracy is None else f"{accuracy:.1f} %"


def duration(seconds: float) -> str:
    """75 -> 1 min."""
    minutes = round(seconds / 60)
    if minutes >= 90:
        return f"{seconds / 3600:.1f} h"
    return f"{minutes} min" if seconds >= 60 else f"{seconds:.0f} s"
