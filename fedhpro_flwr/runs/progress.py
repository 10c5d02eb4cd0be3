"""What a run shows on a terminal while it goes on: the client-by-class table, a line a round, a progress bar."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from logging import INFO, WARNING
from pathlib import Path
from threading import Event, Thread
from typing import Any

from flwr.common.logger import log
from rich.console import Console, Group
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from fedhpro_flwr.config import RunConfig
from fedhpro_flwr.listed import first_ten, listed
from fedhpro_flwr.printable import legible
from fedhpro_flwr.runs.appended_rounds import AppendedRounds
from fedhpro_flwr.runs.read_json import of_json
from fedhpro_flwr.runs.reports import RoundReport
from fedhpro_flwr.runs.run_folder import METRICS_FILE, PARTITION_FILE
from fedhpro_flwr.runs.units import percent, size

WIDEST_CLASSES, MOST_CLIENTS = 12, 20  # shown; the rest is summed up, and the whole table is in partition.json
POLL_SECONDS = 0.3
COLUMNS_WIDTH = 80
COLUMNS = "{:>5} {:>8} {:>15} {:>8} {:>8} {:>6} {:>8} {:>8} {:>4}"  # fits 80 columns
HEADING = COLUMNS.format("round", "accuracy", "head/med/tail", "clients'", "loss", "sec", "up", "down", "ok")


class RunProgress:
    """Shows a run by reading its folder, so it looks the same whichever engine and process does the work.

    Args:
        folder: of the run.
        config: its settings.
        console: where it is shown.
        rounds_before: rounds of an earlier attempt, which are not shown again.
    """

    def __init__(self, folder: Path, config: RunConfig, console: Console, *, rounds_before: int = 0) -> None:
        self.folder, self.config, self.console = folder, config, console
        self.rounds, self.shown = AppendedRounds(folder), rounds_before
        # A run begins by replacing this file by one without the rounds that it plays again; until then it is not read.
        self.before = _inode(folder / METRICS_FILE)
        self.partition_shown = False
        self.ended = Event()
        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("rounds"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=self.console,
            transient=True,
        )
        self.task = self.bar.add_task("starting", total=config.rounds, completed=rounds_before)

    def __enter__(self) -> RunProgress:
        self.bar.start()
        self.watcher = Thread(target=self._watch, daemon=True)
        self.watcher.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.ended.set()
        self.watcher.join()
        self.update()
        self.bar.stop()

    def _watch(self) -> None:
        while not self.ended.wait(POLL_SECONDS):
            self.update()

    def update(self) -> None:
        """Show what has come since the last call."""
        if not self.partition_shown and (self.folder / PARTITION_FILE).exists():
            self.partition_shown = True
            self.console.print(partition_table(of_json((self.folder / PARTITION_FILE).read_text(encoding="utf-8"))))
            self.console.print(HEADING, style="bold")
        begun = self.partition_shown and _inode(self.folder / METRICS_FILE) != self.before
        for line in self.rounds.new() if begun else []:
            if line["server_round"] <= self.shown:
                continue
            self.console.print(round_line(line))
            for reason in first_ten(line["set_aside"]):
                self.console.print(f"       set aside: {reason}", style="yellow", markup=False)
            if clients := line.get("began_anew"):
                self.console.print(f"       {anew(clients)}", style="yellow", markup=False)
            self.shown = line["server_round"]
            self.bar.update(self.task, completed=self.shown, description="training")


def _inode(file: Path) -> int | None:
    return file.stat().st_ino if file.exists() else None


def round_line(line: Mapping[str, Any]) -> str:
    """One row of the live table."""
    tested = line["tested"] or {}
    return COLUMNS.format(
        line["server_round"],
        percent(tested.get("accuracy") if tested.get("mean_over_domains") is None else tested["mean_over_domains"]),
        "/".join(percent(tested.get(group)) for group in ("head", "medium", "tail")) if tested else "-",
        percent((line["received"] or {}).get("accuracy")),
        "-" if line["train_loss"] is None else f"{line['train_loss']:.4f}",
        f"{line['seconds']:.1f}",
        size(sum(line["bytes_up"].values())),
        size(sum(line["bytes_down"].values())),
        len(line["clients"]),
    )


def anew(clients: Sequence[int]) -> str:
    """A sentence on clients that did not find what they had kept."""
    return f"what {listed('client', clients)} kept is gone, or on another machine: begun anew"


def partition_table(content: Mapping[str, Any]) -> Group:
    """Training samples by client and class; a sentence instead if only the clients know them."""
    names, counts = content["class-names"], content["counts"]
    if counts is None:
        return Group(f"every client has data of its own, of {len(names)} classes; how much of which stays with it")
    totals = [sum(column) for column in zip(*counts, strict=True)]
    digits, widest = len(str(max(totals))), len(str(sum(totals)))  # of a class, and of all
    shown = min(WIDEST_CLASSES, (COLUMNS_WIDTH - len("client") - 2 * widest - 3) // (digits + 1))
    if len(names) <= min(WIDEST_CLASSES, shown + 1):
        shown = len(names)  # the last class fits into the column for the sum of the rest
    table = Table(box=None, padding=(0, 0, 0, 1), pad_edge=False)
    table.add_column("client", justify="right", no_wrap=True, min_width=len("client"))
    for name in names[:shown]:  # if there is no room, names are cut rather than numbers
        table.add_column(escape(legible(str(name))[:9]), justify="right", no_wrap=True, min_width=digits)
    if len(names) > shown:
        table.add_column(f"+{len(names) - shown}", justify="right", no_wrap=True, min_width=widest)
    table.add_column("all", justify="right", style="bold", no_wrap=True, min_width=widest)

    domains = content.get("client-domains") or []
    labels = [f"{client} {domains[client]}".strip() if domains else str(client) for client in range(len(counts))]

    def row(label: str, values: Sequence[int], style: str | None = None) -> None:
        cells = [str(value) if value else "·" for value in values[:shown]]
        rest = [str(sum(values[shown:]))] if len(values) > shown else []
        table.add_row(label, *cells, *rest, str(sum(values)), style=style)

    for client, values in enumerate(counts[:MOST_CLIENTS]):
        row(escape(legible(labels[client])), values)
    if len(counts) > MOST_CLIENTS:
        row(f"{MOST_CLIENTS}-{len(counts) - 1}", [sum(column) for column in zip(*counts[MOST_CLIENTS:], strict=True)])
    row("all", totals, "bold")
    # A table's own title would be wrapped to the width of the table.
    return Group(f"training samples by client and class, partition {escape(content['fingerprint'])}", table)


class RoundLog:
    """A line a round in Flower's own log, for whoever started the run with `flwr run`."""

    def __init__(self) -> None:
        self._headed = False

    def on_round(self, report: RoundReport) -> None:
        """Log the numbers of the progress table under its head."""
        if not self._headed:
            log(INFO, "%s", HEADING)
            self._headed = True
        log(INFO, "%s", round_line(report.line()))
        if report.began_anew:
            log(WARNING, "round %d: %s", report.server_round, anew(report.began_anew))
