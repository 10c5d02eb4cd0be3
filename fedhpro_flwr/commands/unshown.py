"""A run goes on if its output cannot be shown: its results are in its folder, and they decide its exit status."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import IO, Any, cast

from fedhpro_flwr.commands.complaint import complain


class UntilItFails:
    """A file that passes on what is written to it, and after the first OSError drops the rest.

    Args:
        file: where the output goes, such as stdout.
    """

    def __init__(self, file: IO[str]) -> None:
        self._file, self._failed = file, False

    def write(self, text: str) -> int:
        """Pass the text on, or drop it after an error."""
        if not self._failed:
            try:
                return self._file.write(text)
            except OSError as error:
                self._let_go(error)
        return len(text)

    def flush(self) -> None:
        """Flush the file, or do nothing after an error."""
        if not self._failed:
            try:
                self._file.flush()
            except OSError as error:
                self._let_go(error)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)  # isatty, encoding

    def _let_go(self, error: OSError) -> None:
        self._failed = True
        with suppress(OSError):  # or Python, at its end, would write the rest, fail, and set an exit status of its own
            os.dup2(os.open(os.devnull, os.O_WRONLY), self._file.fileno())
        if not isinstance(error, BrokenPipeError):  # as in `fedhpro run | head`, which has all that it wants
            with suppress(OSError):
                complain(f"the output cannot be written ({error.strerror}): the run goes on unshown", "yellow")


def until_it_fails(file: IO[str]) -> IO[str]:
    """An `UntilItFails`, with the type that a console takes."""
    return cast(IO[str], UntilItFails(file))
