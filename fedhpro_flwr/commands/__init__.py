"""The commands of `fedhpro`, a file each: `add_parser` declares its arguments, and the parser calls its function.

A command is called with what was parsed and the console, and returns an exit status.
"""

from __future__ import annotations

from argparse import ArgumentParser, _SubParsersAction
from typing import TypeAlias

OK, FAILED, NOT_STARTED, STOPPED = 0, 1, 2, 130
UNREAD = 141  # as shells say of a command whose reader ended first: 128 + SIGPIPE

Subparsers: TypeAlias = "_SubParsersAction[ArgumentParser]"  # what argparse gives no public name
