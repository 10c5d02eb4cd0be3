"""What a run shows on a terminal: the client-by-class table, a line a round, a progress bar, where everything lies."""

from __future__ import annotations

import json
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
from fedhpro_flwr.printable import legible
from fedhpro_flwr.runs.reports import RoundReport, means
from fedhpro_flwr.runs.run_folder import METRICS_FILE, PARTITION_FILE, SUMMARY_FILE, read_rounds
from fedhpro_flwr.runs.summary import TEST_DATA, told

WIDEST_CLASSES, MOST_CLIENTS = 12, 20  # more than this is summed up: the whole table is in partition.json
POLL_SECONDS = 0.3
COLUMNS_WIDTH = 80
COLUMNS = "{:>5} {:>8} {:>15} {:>8} {:>8} {:>6} {:>8} {:>8} {:>4}"  # fits 80 columns
HEADING = COLUMNS.format("round", "accuracy", "head/med/tail", "clients'", "loss", "sec", "up", "down", "ok")


class RunProgress:
    """Shows a run by reading its folder, so it looks the same whichever engine and process does the work.

    Args:
        folder: of the run.
        config: its settings.
        console: where to.
        rounds_before: rounds of an earlier attempt, which are not shown again.
    """

    def __init__(
        self, folder: Path, config: RunConfig, console: Console | None = None, *, rounds_before: int = 0
    ) -> None:
        self.folder, self.config = folder, config
        self.console = console or Console(highlight=False)
        self.shown = rounds_before
        # A run that goes on cuts off the rounds after its checkpoint first, and with them this very file.
        self.before = _inode(folder / METRICS_FILE) if rounds_before else None
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
            self.console.print(partition_table(json.loads((self.folder / PARTITION_FILE).read_text())))
            self.console.print(HEADING, style="bold")
        begun = self.partition_shown and _inode(self.folder / METRICS_FILE) != self.before
        rounds = read_rounds(self.folder) if begun else []
        for line in rounds[self.shown :]:
            self.console.print(round_line(line))
            for reason in line["set_aside"]:
                self.console.print(f"       set aside: {reason}", style="yellow", markup=False)
            if clients := line.get("began_anew"):
                self.console.print(f"       {anew(clients)}", style="yellow", markup=False)
        if len(rounds) > self.shown:
            self.shown = len(rounds)
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
    """Of clients that did not find what they had kept."""
    return f"what client {', '.join(map(str, clients))} kept is gone, or on another machine: begun anew"


def percent(value: float | None) -> str:
    """0.5 -> 50.0."""
    return "-" if value is None else f"{100 * value:.1f}"


def size(count: float) -> str:
    """Bytes with a unit."""
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"


def partition_table(content: Mapping[str, Any]) -> Group:
    """Training samples by client and class; a sentence where only the clients know."""
    names, counts = content["class-names"], content["counts"]
    if counts is None:
        return Group(f"every client has data of its own, of {len(names)} classes; how much of which stays with it")
    totals = [sum(column) for column in zip(*counts, strict=True)]
    digits, widest = len(str(max(totals))), len(str(sum(totals)))  # of a class, and of all
    shown = min(WIDEST_CLASSES, (COLUMNS_WIDTH - len("client") - 2 * widest - 3) // (digits + 1))
    if len(names) <= min(WIDEST_CLASSES, shown + 1):
        shown = len(names)  # the last class fits where the others' sum would stand
    table = Table(box=None, padding=(0, 0, 0, 1), pad_edge=False)
    table.add_column("client", justify="right", no_wrap=True, min_width=len("client"))
    for name in names[:shown]:  # a name is cut where a number would have to be
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


def closing(folder: Path, seconds: float, rounds_before: int = 0) -> Table:
    """Best, last and mean-of-last-ten accuracy; where the time and the bytes went; where everything lies.

    Args:
        folder: of the run.
        seconds: that the command took.
        rounds_before: rounds that it found played.
    """
    rounds, summary = read_rounds(folder), json.loads((folder / SUMMARY_FILE).read_text())
    table = Table(box=None, show_header=False, title="done", title_justify="left", title_style="bold green")
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    best, last, mean = (percent(summary["accuracy"][name]) for name in ("best", "last", "mean-of-last-ten"))
    part = summary.get("tested-on", TEST_DATA)
    measure = told(summary["accuracy-of"], part)
    of = "" if measure == TEST_DATA else f" ({measure})"
    best_round = summary["accuracy"]["best-round"]
    headline = f"best {best} (round {best_round}), last {last}, mean of last ten {mean}{of}"
    table.add_row("accuracy", headline if best_round is not None else "nothing was tested")
    for name, said in accuracy_rows(summary, part):
        table.add_row(name, escape(said))
    for side, note in (("client", "a round, clients summed"), ("server", "a round")):
        phases = means(rounds, f"{side}_seconds")
        listed = ", ".join(f"{name} {milliseconds(value)}" for name, value in phases.items() if name != "waiting")
        if listed:  # a client that withholds its results tells no times either
            table.add_row(f"{side} time", escape(f"{listed} {note}"))
    for way in ("up", "down"):
        listed = ", ".join(f"{name} {size(value)}" for name, value in means(rounds, f"bytes_{way}").items())
        table.add_row(f"sent {way}", escape(f"{listed} a round"))
    played = [line["seconds"] for line in rounds[rounds_before:]]
    each = f", of which {len(played)} rounds of {sum(played) / len(played):.2f} s" if played else ""
    table.add_row("wall clock", f"{seconds:.1f} s{each}")
    table.add_row("results", escape(str(folder)))
    table.add_row("", ", ".join(sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))))
    return table


def accuracy_rows(summary: Mapping[str, Any], part: str = TEST_DATA) -> list[tuple[str, str]]:
    """Rows on the last round: domains, clients, architectures, nearest prototypes, and training alone."""
    last, clients = summary["last-round"] or {}, summary["clients-tested"] or {}
    rows = []
    if by_domain := last.get("domain_accuracy") or clients.get("domain_accuracy"):
        rows.append(("domains", ", ".join(f"{name} {percent(value)}" for name, value in by_domain.items())))
    if clients:
        mean, deviation, worst = (percent(clients[name]) for name in ("accuracy", "deviation", "worst"))
        who = f"worst {worst} (client {clients['worst_client']})"
        tested, every = clients["clients"], summary.get("num-clients", 0)
        some = f" ({tested} of {every})" if tested < every else ""
        rows.append(("clients", f"on their own {part}{some}: mean {mean}, deviation {deviation}, {who}"))
    if by_architecture := clients.get("by_architecture"):
        said = ", ".join(f"{name} {percent(value)}" for name, value in by_architecture.items())
        rows.append(("architectures", f"mean over their clients: {said}"))
    if (by_prototype := last.get("by_prototype", clients.get("by_prototype"))) is not None:
        rows.append(("prototypes", f"by the nearest instead of the head: {percent(by_prototype)}"))
    if summary["worse-than-alone"] is not None:
        rows.append(("alone", f"{percent(summary['worse-than-alone'])} % of the clients do worse than training alone"))
    return rows


def milliseconds(seconds: float) -> str:
    """Seconds with a unit."""
    return f"{1000 * seconds:.1f} ms" if seconds < 1 else f"{seconds:.1f} s"


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
