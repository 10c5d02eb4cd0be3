"""`fedhpro ablate`: FedHPro with one part changed at a time, as one table."""

from __future__ import annotations

import argparse

from rich.console import Console

from fedhpro_flwr.commands import Subparsers
from fedhpro_flwr.commands.compare import add_grid, run_grid
from fedhpro_flwr.comparison.ablations import FULL, GROUPS, ablation_rows, read_groups
from fedhpro_flwr.comparison.table import baseline_of
from fedhpro_flwr.config import ConfigError
from fedhpro_flwr.settings.from_command_line import prepare, read_settings


def add_parser(commands: Subparsers) -> None:
    """Declare `fedhpro ablate`."""
    command = commands.add_parser("ablate", help="run FedHPro with one part changed at a time and write one table")
    command.add_argument("conf", help="a TOML file, or the name of one in conf/")
    command.add_argument("--only", metavar="GROUP,...", help=f"groups of rows: {', '.join(GROUPS)} (default: all)")
    add_grid(command)
    command.set_defaults(command=ablate)


def ablate(options: argparse.Namespace, console: Console) -> int:
    """Run and show FedHPro with one part changed at a time; the baseline is FedHPro as it is set.

    Raises:
        ConfigError: the file chooses another method, a run of the grid cannot be started, or a folder holds another run
            or cannot be written; nothing was started.
    """
    if (chosen := read_settings(options.conf, [])["method.name"]) not in ("fedhpro", "fedavg"):
        raise ConfigError(
            f"{options.conf} says method.name = {chosen!r}, and these rows are FedHPro's parts and FedAvg: take it out "
            "of the file, or compare rows of your own with `fedhpro compare --methods`"
        )
    only = read_groups(options.only) if options.only else ()
    rows = ablation_rows(prepare(options.conf, [*options.set, "method.name=fedhpro"]), only)
    return run_grid(options, console, rows, baseline_of(rows, options.baseline or FULL))
