"""flower.log: what Flower and the apps print. If the disk is full this is said once, and the run goes on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path


class LogFile:
    """A log that grows line by line.

    Args:
        path: of the file; what it holds already stays.
        told: gets a sentence if it cannot be written.
        again: a log that was written before comes once more, from its beginning: what stands here already is left out.

    Raises:
        OSError: it cannot be opened.
    """

    def __init__(self, path: Path, told: Callable[[str], None] = lambda sentence: None, *, again: bool = False) -> None:
        self.path, self._told = path, told
        there = path.read_text(encoding="utf-8", errors="replace") if again and path.exists() else ""
        self._there = Counter(there.split("\n")[:-1])  # `splitlines` also ends a line at a form feed or U+2028
        self._file = path.open("a", encoding="utf-8")
        self._failed = False

    def __enter__(self) -> LogFile:
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):  # closing tries once more to write what a full disk had no room for
            self._file.close()

    def write(self, line: str) -> None:
        """One line more, on the disk at once."""
        if self._there[line]:
            self._there[line] -= 1
            return
        try:
            print(line, file=self._file, flush=True)
        except OSError as error:
            if not self._failed:
                self._failed = True
                self._told(f"{self.path} cannot be written ({error.strerror}): lines of the log are lost there")
