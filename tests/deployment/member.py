"""A process of a cluster with everything that it starts, found by a mark in the environment, so that all of it fails.

What is killed or cleaned up is the whole member, as if its machine had gone; processes in sessions of their own
are found too.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

MARK = "FEDHPRO_CLUSTER_MEMBER"
END_SECONDS = 15.0  # for a member to end by itself once it is told to
POLL_SECONDS = 0.2
COLOURS = re.compile(r"\x1b\[[0-9;]*m")
NODE_ID = re.compile(r"SuperNode ID: (\d+)")


@dataclass
class Member:
    """A SuperLink or a SuperNode, with everything it has started."""

    name: str
    mark: str
    log_file: Path
    process: subprocess.Popen[bytes]

    def pids(self) -> list[int]:
        """The member's living processes."""
        return list(marked(self.mark))

    def send(self, what: signal.Signals) -> None:
        """A signal to each of its processes."""
        for pid in self.pids():
            with suppress(ProcessLookupError):
                os.kill(pid, what)

    def kill(self) -> None:
        """As if its machine lost power."""
        while self.pids():
            self.send(signal.SIGKILL)
            self.process.poll()
            time.sleep(POLL_SECONDS / 4)
        self.process.wait(END_SECONDS)

    def hang(self) -> None:
        """What it started answers no more, while it goes on sending heartbeats: nobody takes it for dead."""
        hung: set[int] = set()
        while started := {*self.pids()} - hung - {self.process.pid}:
            for pid in started:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGSTOP)
            hung |= started

    def go_on(self) -> None:
        """It goes on where it hung."""
        self.send(signal.SIGCONT)

    def stop(self) -> None:
        """It is asked to end, as a service manager does; what is left after a while is killed."""
        with suppress(ProcessLookupError):
            self.process.terminate()
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(END_SECONDS)
        self.kill()

    def log(self) -> str:
        """What it has said so far."""
        return COLOURS.sub("", self.log_file.read_text(errors="replace")) if self.log_file.exists() else ""

    def node_id(self) -> int:
        """Of a SuperNode: the id that the SuperLink gave it.

        Raises:
            AssertionError: it has none yet.
        """
        found = NODE_ID.findall(self.log())
        assert found, self.log()
        return int(found[-1])


def marked(mark: str) -> Iterator[int]:
    """The living processes of this machine with a member's mark in their environment.

    Flower hides the environment of its `flower-superexec` from all but root. It is found as the child of a process with
    the mark, or by the session that it shares with one.
    """
    parents, sessions, found = dict[int, int](), dict[int, int](), set[int]()
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            state, parent, _, session = (folder / "stat").read_text().rpartition(")")[2].split()[:4]
            if state != "Z":
                parents[int(folder.name)], sessions[int(folder.name)] = int(parent), int(session)
                if f"{MARK}={mark}".encode() in (folder / "environ").read_bytes().split(b"\0"):
                    found.add(int(folder.name))
    shared = {sessions[pid] for pid in found} - {os.getsid(0)}
    yield from found | {pid for pid in parents if parents[pid] in found or sessions[pid] in shared}


def until(ready: Callable[[], object], what: str, seconds: float = 300.0, pause: float = POLL_SECONDS) -> None:
    """Wait until something is so.

    Args:
        ready: looks whether it is.
        what: for the sentence.
        seconds: at most.
        pause: seconds between two looks.

    Raises:
        AssertionError: it was not so in time.
    """
    deadline = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < deadline, f"after {seconds:.0f} s still not: {what}"
        time.sleep(pause)
