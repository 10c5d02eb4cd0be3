"""What a command says of a run that has ended: accuracies, where the time and the bytes went, where everything lies."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.table import Table

from fedhpro_flwr.client.privacy import EPSILON
from fedhpro_flwr.runs.read_json import of_json
from fedhpro_flwr.runs.reports import means
from fedhpro_flwr.runs.run_folder import CONFIG_FILE, SUMMARY_FILE, read_rounds
from fedhpro_flwr.runs.summary import TEST_DATA, told
from fedhpro_flwr.runs.units import milliseconds, percent, size
from fedhpro_flwr.settings.recorded import read_recorded


def closing(folder: Path, seconds: float, rounds_before: int = 0) -> Table:
    """Best, last and mean-of-last-ten accuracy; where the time and the bytes went; where everything lies.

    Args:
        folder: of the run.
        seconds: that the command took.
        rounds_before: rounds that had been played before the command.
    """
    rounds, summary = read_rounds(folder), of_json((folder / SUMMARY_FILE).read_text(encoding="utf-8"))
    table = Table(box=None, show_header=False, title="done", title_justify="left", title_style="bold green")
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    best, last, mean = (percent(summary["accuracy"][name]) for name in ("best", "last", "mean-of-last-ten"))
    part = summary["tested-on"]
    measure = told(summary["accuracy-of"], part)
    of = "" if measure == TEST_DATA else f" ({measure})"
    best_round = summary["accuracy"]["best-round"]
    headline = f"best {best} (round {best_round}), last {last}, mean of last ten {mean}{of}"
    table.add_row("accuracy", headline if best_round is not None else "nothing was tested")
    for name, said in accuracy_rows(summary, part):
        table.add_row(name, escape(said))
    for name, spent in summary.get("privacy", {}).items():
        delta = read_recorded(folder / CONFIG_FILE).privacy.delta
        if_secret = "" if name == EPSILON else ", were the noise secret"
        table.add_row("privacy", f"epsilon {spent:,.4g} at delta {delta:g}{if_secret}; of the client that spent most")
    for side, note in (("client", "a round, clients summed"), ("server", "a round")):
        phases = means(rounds, f"{side}_seconds")
        listed = ", ".join(f"{name} {milliseconds(value)}" for name, value in phases.items())
        if listed:  # a client that withholds its results tells no times either
            table.add_row(f"{side} time", escape(f"{listed} {note}"))
    for way in ("up", "down"):
        listed = ", ".join(f"{name} {size(value)}" for name, value in means(rounds, f"bytes_{way}").items())
        table.add_row(f"sent {way}", escape(f"{listed} a round"))
    played = [line["seconds"] for line in rounds[rounds_before:]]
    each = f", of which {len(played)} rounds of {sum(played) / len(played):.2f} s" if played else ""
    table.add_row("wall clock", f"{seconds:.1f} s{each}")
    table.add_row("results", escape(str(folder)))
    names = sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))
    table.add_row("", escape(", ".join(names)))
    return table


def accuracy_rows(summary: Mapping[str, Any], part: str) -> list[tuple[str, str]]:
    """Rows on the last round: domains, clients, architectures, nearest prototypes, and training alone."""
    last, clients = summary["last-round"] or {}, summary["clients-tested"] or {}
    rows = []
    if by_domain := last.get("domain_accuracy") or clients.get("domain_accuracy"):
        rows.append(("domains", ", ".join(f"{name} {percent(value)}" for name, value in by_domain.items())))
    if clients:
        mean, deviation, worst = (percent(clients[name]) for name in ("accuracy", "deviation", "worst"))
        who = f"worst {worst} (client {clients['worst_client']})"
        tested, every = clients["clients"], summary["num-clients"]
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
