"""`fedhpro`: the command line. Each command is a file in commands/."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from traceback import extract_tb
from types import ModuleType

from rich.console import Console

from fedhpro_flwr.commands import NOT_STARTED, STOPPED, certs, doctor
from fedhpro_flwr.commands.complaint import complain
from fedhpro_flwr.printable import printable
from fedhpro_flwr.settings.flat_keys import ConfigError

ADDED_TO = {Path(__file__).parent / name for name in ("data", "models", "methods", "tracking")}


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit status: 0 it ended well, 1 it failed, 2 it was not started, 130 it was stopped.

    On SIGTERM a simulation, and the process that watches a deployed run, ends in good order with status 143.
    """
    console = Console(highlight=False)
    try:
        options = _parser().parse_args(arguments)  # imports the commands, and torch: seconds in which Ctrl-C may come
        return int(options.command(options, console))
    except (ConfigError, OSError) as error:
        complain(printable(str(error)))
        return NOT_STARTED
    except KeyboardInterrupt:
        complain("stopped")
        return STOPPED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="fedhpro", description="Federated learning with hyper-prototypes, on Flower.")
    commands = parser.add_subparsers(required=True, metavar="command")
    for command in _commands():
        command.add_parser(commands)
    return parser


def _commands() -> list[ModuleType]:
    """The commands in the order of `fedhpro --help`; if torch does not import, only those that do without it."""
    try:
        import fedhpro_flwr.torch_at_once  # noqa: F401 - first: the others import torch
        from fedhpro_flwr.commands import ablate, compare, export, predict, report, run
    except (ImportError, OSError) as error:
        complain(_why(error))
        return [doctor, certs]
    return [run, compare, ablate, report, predict, export, doctor, certs]


def _why(error: Exception) -> str:
    """Which import fails: that of a file in a folder to which users add their own, or of a library."""
    files = [Path(frame.filename) for frame in extract_tb(error.__traceback__) if not frame.filename.startswith("<")]
    if files[-1].parent in ADDED_TO and getattr(error, "name", "") != "torch":
        return f"{files[-1]} does not import ({error}); install what it needs, or correct it"
    return f"a library does not import ({error}); `fedhpro doctor` says which"


if __name__ == "__main__":
    sys.exit(main())
