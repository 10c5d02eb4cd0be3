"""What every benchmark needs: a clock, a row of the table, the facts of the machine, the memory of a process.

Wall clock and CPU time stand side by side because machines are shared. The CPU time of a computation on one thread is
what it would take on an idle core; the wall clock is how long somebody waited.
"""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

MEGABYTE = 1e6


@dataclass(frozen=True)
class Seconds:
    """How long something took; CPU time is that of the process."""

    wall: float
    cpu: float

    def scaled(self, factor: float) -> Seconds:
        """Linear extrapolation."""
        return Seconds(self.wall * factor, self.cpu * factor)

    def plus(self, other: Seconds) -> Seconds:
        """One after the other."""
        return Seconds(self.wall + other.wall, self.cpu + other.cpu)


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Args:
        section: which benchmark.
        what: is measured.
        value: the number, that of the wall clock where it is a time.
        unit: of the value.
        cpu: the same by CPU time, None where that says nothing.
        target: None where there is none.
        more_is_better: whether the target is a lower bound.
        note: how it was measured, what it is compared with.
    """

    section: str
    what: str
    value: float
    unit: str
    cpu: float | None = None
    target: float | None = None
    more_is_better: bool = False
    note: str = ""

    @property
    def verdict(self) -> str:
        """yes, no, or "by CPU time" where the wall clock of a loaded machine misses what the work itself meets."""
        if self.target is None:
            return ""
        if self._meets(self.value):
            return "yes"
        return "by CPU time" if self.cpu is not None and self._meets(self.cpu) else "no"

    def _meets(self, value: float) -> bool:
        assert self.target is not None
        return value >= self.target if self.more_is_better else value <= self.target


def once(work: Callable[[], object]) -> Seconds:
    """One timed call."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return Seconds(time.perf_counter() - wall, time.process_time() - cpu)


def best(work: Callable[[], object], repeats: int) -> Seconds:
    """The best wall clock and the best CPU time of several calls, after one that is not counted."""
    work()
    return best_of([once(work) for _ in range(repeats)])


def interleaved(works: dict[str, Callable[[], object]], repeats: int) -> dict[str, Seconds]:
    """The best of each, taken in turns so that what else the machine does hits all alike, after one not counted."""
    for work in works.values():
        work()
    turns = [{name: once(work) for name, work in works.items()} for _ in range(repeats)]
    return {name: best_of([turn[name] for turn in turns]) for name in works}


def best_of(taken: list[Seconds]) -> Seconds:
    """The smallest of each clock."""
    return Seconds(min(seconds.wall for seconds in taken), min(seconds.cpu for seconds in taken))


def machine() -> dict[str, str | int | float]:
    """What the numbers depend on."""
    info = Path("/proc/cpuinfo")
    models = [line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
    return {
        "date": time.strftime("%Y-%m-%d %H:%M:%S"),
        "cpu": models[0] if models else platform.processor(),
        "cores": os.cpu_count() or 0,
        "vector instructions": torch.backends.cpu.get_cpu_capability(),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "load average": round(os.getloadavg()[0], 2),
    }


def peak_memory(pid: int | str = "self") -> float:
    """The most memory a process has held so far, in bytes; 0 if it is gone."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0.0
    return max((1024.0 * int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")), default=0.0)
