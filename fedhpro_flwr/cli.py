"""`fedhpro`: the command line. Each command is a file in commands/."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from rich.console import Console

from fedhpro_flwr.commands import NOT_STARTED, STOPPED, ablate, compare, report, run
from fedhpro_flwr.config import ConfigError
from fedhpro_flwr.settings import prepare

__all__ = ["main", "prepare"]

COMMANDS = (run, compare, ablate, report)  # in the order of `fedhpro --help`


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit status: 0 it ended well, 1 it failed, 2 it was not started, 130 it was stopped."""
    options = _parser().parse_args(arguments)
    console = Console(highlight=False)
    try:
        return int(options.command(options, console))
    except (ConfigError, OSError) as error:
        console.print(f"fedhpro: {error}", style="red", markup=False, soft_wrap=True)
        return NOT_STARTED
    except KeyboardInterrupt:
        console.print("fedhpro: stopped", style="red")
        return STOPPED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="fedhpro", description="Federated learning with hyper-prototypes, on Flower.")
    commands = parser.add_subparsers(required=True, metavar="command")
    for command in COMMANDS:
        command.add_parser(commands)
    return parser


if __name__ == "__main__":
    sys.exit(main())
