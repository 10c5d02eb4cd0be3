"""Runs the cells of a grid, several at a time, in child processes; one that dies takes no other cell with it."""

from __future__ import annotations

import os
import selectors
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from fedhpro_flwr.commands import OK
from fedhpro_flwr.commands.complaint import SAID
from fedhpro_flwr.comparison.child_process import LOG_FILE, end, start_child, stop
from fedhpro_flwr.comparison.finished import is_finished
from fedhpro_flwr.comparison.grid import Cell
from fedhpro_flwr.runs.run_folder import CHECKPOINT_FOLDER, FAILURE_FILE, write_settings


@dataclass(frozen=True)
class Outcome:
    """How a cell ended."""

    cell: Cell
    seconds: float
    failure: str = ""  # a sentence; empty if it ended well
    after: int = 0  # the round after which it went on; 0 if it was begun anew


@dataclass
class Worker:
    """A child process and the cell it is at."""

    process: subprocess.Popen[str]
    threads: int
    cell: Cell | None = None
    began: float = field(default_factory=time.monotonic)

    @classmethod
    def start(cls, arguments: Sequence[str], threads: int, lock: int) -> Worker:
        """A new child, for cells that use `threads` threads each."""
        command = [sys.executable, "-P", "-m", "fedhpro_flwr.comparison.worker", str(os.getpid()), *arguments]
        # -P: so that a folder client_app in the user's working directory is not imported in place of this one.
        root = str(Path(__file__).resolve().parents[2])
        environment = {
            **os.environ,
            "OMP_NUM_THREADS": str(threads),
            "PYTHONUTF8": "1",
            "PYTHONPATH": os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH", "")])),
        }
        return cls(start_child(command, environment, lock), threads)

    def give(self, cell: Cell) -> None:
        """Begin a cell, or go on with it: its settings go to its folder, from which the run reads them."""
        cell.folder.mkdir(parents=True, exist_ok=True)
        if (cell.folder / FAILURE_FILE).exists():  # begun anew: its first rounds may have suffered too
            shutil.rmtree(cell.folder / CHECKPOINT_FOLDER, ignore_errors=True)
        for name in (FAILURE_FILE, LOG_FILE):  # of an earlier attempt: they would explain this one's failure wrongly
            (cell.folder / name).unlink(missing_ok=True)
        write_settings(cell.folder, cell.config)
        self.cell, self.began = cell, time.monotonic()
        assert self.process.stdin is not None
        with suppress(BrokenPipeError):  # the child died while idle, which `outcome` sees by the end of its output
            self.process.stdin.write(f"{cell.folder}\n")
            self.process.stdin.flush()

    def outcome(self) -> Outcome:
        """The outcome of the cell, once the child has answered or died."""
        assert self.cell is not None and self.process.stdout is not None
        answer = [int(word) for word in self.process.stdout.readline().split()]
        status, after = answer or (self.process.wait(), 0)
        ended_well = status == OK and is_finished(self.cell)
        seconds = time.monotonic() - self.began
        return Outcome(self.cell, seconds, "" if ended_well else failure_of(self.cell.folder, status), after)

    @property
    def is_alive(self) -> bool:
        """Whether it can be given another cell."""
        return self.process.poll() is None


def run_cells(
    cells: Sequence[Cell],
    arguments: Sequence[str],
    *,
    jobs: int,
    lock: int,
    tell: Callable[[Outcome], None],
    keep: bool,
) -> list[Outcome]:
    """Run all cells, `jobs` at a time, and tell of each when it ends. An interruption stops the children first.

    Args:
        cells: in the order in which they are begun.
        arguments: of `fedhpro run`, after its CONF.
        jobs: children at a time.
        lock: descriptor that each child inherits.
        tell: called with each outcome.
        keep: whether a child runs several cells; otherwise each has a child of its own.

    Returns:
        The outcomes in the order in which the cells ended.
    """
    waiting, outcomes = list(cells), []
    workers: list[Worker] = []
    with selectors.DefaultSelector() as answers:

        def begin(idle: Worker | None) -> None:
            cell = waiting.pop(0)
            threads = cell.config.clients.threads
            if idle is None or not idle.is_alive or not keep or idle.threads != threads:
                dismiss(idle)
                idle = Worker.start(arguments, threads, lock)
                workers.append(idle)
                assert idle.process.stdout is not None
                answers.register(idle.process.stdout, selectors.EVENT_READ, idle)
            idle.give(cell)

        def dismiss(worker: Worker | None) -> None:
            if worker is not None:
                assert worker.process.stdout is not None
                answers.unregister(worker.process.stdout)
                end(worker.process)
                workers.remove(worker)

        try:
            for _ in range(min(jobs, len(waiting))):
                begin(None)
            while workers:
                for key, _ in answers.select():
                    worker: Worker = key.data
                    outcomes.append(worker.outcome())
                    tell(outcomes[-1])
                    if waiting:
                        begin(worker)
                    else:
                        dismiss(worker)
        finally:
            stop([worker.process for worker in workers])
    return outcomes


def failure_of(folder: Path, status: int) -> str:
    """Why a cell failed: what the run wrote, else the last sentence it printed, else how its process ended."""
    if (folder / FAILURE_FILE).exists():
        return (folder / FAILURE_FILE).read_text(encoding="utf-8")
    log = folder / LOG_FILE
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines() if log.exists() else []
    sentences = [line.removeprefix(SAID) for line in lines if line.startswith(SAID)]
    if status < 0:
        by = next((known.name for known in signal.Signals if known == -status), f"signal {-status}")
        return f"its process was ended by {by}, see {log}"
    return sentences[-1] if sentences else f"its process ended with exit status {status}, see {log}"
