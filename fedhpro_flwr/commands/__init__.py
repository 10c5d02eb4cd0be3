"""The commands of `fedhpro`, one file each: `add_parser` declares the arguments and names the function to be called.

That function gets the parsed arguments and the console, and returns an exit status.
"""

from __future__ import annotations

from argparse import ArgumentParser, _SubParsersAction
from typing import TypeAlias

OK, FAILED, NOT_STARTED, STOPPED = 0, 1, 2, 130
UNREAD = 141  # shells' exit status for a command whose reader ended first: 128 + SIGPIPE

Subparsers: TypeAlias = "_SubParsersAction[ArgumentParser]"  # argparse has no public name for it
