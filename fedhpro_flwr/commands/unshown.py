"""Output that cannot be shown is no reason to end a run: its results are in its folder, and they decide its status."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import IO, Any, cast

from fedhpro_flwr.commands.complaint import complain


class UntilItFails:
    """A file that takes what is written to it, and after the first error of the system's lets the rest go.

    Args:
        file: where it goes, as stdout.
    """

    def __init__(self, file: IO[str]) -> None:
        self._file, self._failed = file, False

    def write(self, text: str) -> int:
        """As of any file."""
        if not self._failed:
            try:
                return self._file.write(text)
            except OSError as error:
                self._let_go(error)
        return len(text)

    def flush(self) -> None:
        """As of any file."""
        if not self._failed:
            try:
                self._file.flush()
            except OSError as error:
                self._let_go(error)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)  # isatty, encoding

    def _let_go(self, error: OSError) -> None:
        self._failed = True
        with suppress(OSError):  # Python would write what is left when it ends, fail, and exit with a status of its own
            os.dup2(os.open(os.devnull, os.O_WRONLY), self._file.fileno())
        if not isinstance(error, BrokenPipeError):  # `fedhpro run | head` has what it wanted
            with suppress(OSError):
                complain(f"the output cannot be written ({error.strerror}): the run goes on unshown", "yellow")


def until_it_fails(file: IO[str]) -> IO[str]:
    """`UntilItFails`, as a console takes it."""
    return cast(IO[str], UntilItFails(file))
