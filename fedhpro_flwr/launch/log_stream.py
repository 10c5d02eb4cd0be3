"""A run's log as it grows, line by line; a stream that broke off goes on from there."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from threading import Thread

END_SECONDS = 10.0  # for the process to end once it is told to


class LogStream:
    """Reads a process that prints the log from its beginning, in a thread.

    Args:
        start: starts that process. Started again it prints what it printed before, which is left out.
        say: gets each line, without its end.
    """

    def __init__(self, start: Callable[[], subprocess.Popen[str]], say: Callable[[str], None]) -> None:
        self._start, self._say = start, say
        self._shown = 0

    def __enter__(self) -> LogStream:
        self.open()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def open(self) -> None:
        """Begin to read, or begin again."""
        self._process = self._start()
        self._reader = Thread(target=self._read, daemon=True)
        self._reader.start()

    def close(self) -> None:
        """End the process; what it has printed is handed on before this returns."""
        self._process.terminate()
        try:
            self._process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join()
        if self._process.stdout:
            self._process.stdout.close()

    @property
    def ended(self) -> bool:
        """Whether nothing more will come."""
        return not self._reader.is_alive()

    def join(self, seconds: float) -> None:
        """Wait for the end of the stream, for `seconds` at most."""
        self._reader.join(seconds)

    def _read(self) -> None:
        assert self._process.stdout is not None
        for number, line in enumerate(self._process.stdout):
            if number >= self._shown:
                self._say(line.rstrip("\n"))
                self._shown = number + 1
