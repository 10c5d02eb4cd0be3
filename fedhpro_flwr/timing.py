"""Seconds per phase."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch

CLIENT_PHASES = ("evaluation", "class-gradients", "local-training", "departure")
PHASE = "seconds-"  # prefix of a phase among a client's metrics
WAITING = "waiting"  # the server's phase in which it waits for the clients


class Stopwatch:
    """`with watch("matching"): ...` adds the block's seconds to `watch.seconds["matching"]`."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._began = time.perf_counter()

    @property
    def elapsed(self) -> float:
        """Seconds since the stopwatch was made."""
        return time.perf_counter() - self._began

    @contextmanager
    def __call__(self, phase: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
            if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
                torch.cuda.synchronize()  # queued work belongs to the phase that queued it
        finally:
            self.seconds[phase] = self.seconds.get(phase, 0.0) + time.perf_counter() - start
