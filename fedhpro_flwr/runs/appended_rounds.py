"""The rounds of a run that is watched while it goes on: each line of metrics.jsonl is read once."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from fedhpro_flwr.runs.round_line import round_of
from fedhpro_flwr.runs.run_folder import METRICS_FILE


class AppendedRounds:
    """The lines that a run's metrics.jsonl has gained since the last look; an incomplete line waits for the next one.

    Args:
        folder: of the run.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / METRICS_FILE
        self._inode, self._offset, self._lines = -1, 0, 0

    def new(self) -> list[dict[str, Any]]:
        """The lines since the last call; all lines if it is another file now, or shorter than it was.

        Raises:
            ConfigError: a line is damaged; the message has its number. The next call finds it again.
        """
        try:
            file = self._path.open("rb")
        except FileNotFoundError:
            return []
        with file:
            now = os.fstat(file.fileno())
            if now.st_ino != self._inode or now.st_size < self._offset:
                self._inode, self._offset, self._lines = now.st_ino, 0, 0
            file.seek(self._offset)
            complete = file.read().split(b"\n")[:-1]
        numbered = enumerate(complete, start=self._lines + 1)
        rounds = [round_of(line, f"{self._path}, line {number}") for number, line in numbered if line]
        self._offset += sum(len(line) + 1 for line in complete)
        self._lines += len(complete)
        return rounds
