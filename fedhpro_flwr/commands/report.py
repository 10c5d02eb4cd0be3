"""`fedhpro report`: one HTML page about runs."""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path

from rich.console import Console

from fedhpro_flwr.commands import OK, Subparsers
from fedhpro_flwr.commands.complaint import say


def add_parser(commands: Subparsers) -> None:
    """Declare `fedhpro report`."""
    command = commands.add_parser("report", help="write one HTML page about runs: curves, splits, features, costs")
    command.add_argument(
        "runs", nargs="+", type=Path, metavar="RUN", help="a run's folder, or a folder with several below it"
    )
    command.add_argument(
        "--out", type=Path, help="folder of the page (default: report in the one folder named, or in the current one)"
    )
    command.add_argument(
        "--central",
        action="store_true",
        help="train a model centrally for each seed and hold the prototypes against it",
    )
    command.add_argument(
        "--no-features",
        action="store_true",
        help="leave out the pictures of features, which load each group's data and model and take most of the time",
    )
    command.set_defaults(command=report)


def report(options: argparse.Namespace, console: Console) -> int:
    """Write index.html and its pictures.

    Raises:
        FileNotFoundError: there is no run in a place that was named.
        ConfigError: a run's file cannot be read, no run has completed a round, or --out cannot be written.
    """
    from fedhpro_flwr.report.build import write_report  # torch takes seconds: not for a mistyped command

    out = options.out or (options.runs[0] if len(options.runs) == 1 else Path()) / "report"
    said = partial(say, console, style="dim")
    written = write_report(options.runs, out, central=options.central, features=not options.no_features, say=said)
    say(console, f"report: {written.resolve()}")
    return OK
