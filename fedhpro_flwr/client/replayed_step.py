"""A training step whose kernels a GPU replays as one CUDA graph, without the host.

The kernels of a small network take less time than the host needs to launch them one by one; a graph is launched as a
whole. It reads and writes the same memory each time, so every batch is copied to where the first one was, and it
repeats whatever the host decided during the recording. A step decides nothing by the numbers it computes, as
tests/device checks. A step that cannot be recorded is computed as usual.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import cache
from logging import WARNING
from typing import Protocol

import torch
from flwr.common.logger import log
from torch import Tensor

from fedhpro_flwr.printable import one_line
from fedhpro_flwr.settings.sections import LocalOptions

Step = Callable[[Tensor, Tensor], Tensor]  # x [B, ...], labels [B] -> the loss, a scalar
WARM_UP = 3  # steps before a recording, in which libraries choose kernels and memory and SGD makes its velocities


def as_cuda_graph(step: Step, local: LocalOptions, device: torch.device) -> Step:
    """The step itself, or one that is replayed if `local.cuda-graph` asks for it and the device is a GPU."""
    return ReplayedStep(step, CudaRecorder()) if local.cuda_graph and device.type == "cuda" else step


class Recorder(Protocol):
    """Records what a device is asked to do."""

    def apart(self) -> AbstractContextManager[None]:
        """The context in which the steps before a recording run."""

    def record(self, work: Callable[[], Tensor]) -> tuple[Tensor, Callable[[], object]]:
        """The tensor for the work's result, and a function that does the device's part of the work; not done yet."""


class CudaRecorder:
    """torch's own CUDA graphs."""

    @contextmanager
    def apart(self) -> Iterator[None]:
        """On the recording's stream, after all earlier work of the current stream and before its later work."""
        here, there = torch.cuda.current_stream(), _stream()
        there.wait_stream(here)
        with torch.cuda.stream(there):
            yield
        here.wait_stream(there)

    def record(self, work: Callable[[], Tensor]) -> tuple[Tensor, Callable[[], object]]:
        """A graph with memory of its own, which is freed with the graph."""
        graph = torch.cuda.CUDAGraph()
        # Both contexts, since torch.cuda.graph stays on its stream if a recording fails.
        with torch.cuda.stream(_stream()), torch.cuda.graph(graph, stream=_stream()):
            result = work()
        return result, graph.replay


@cache
def _stream() -> torch.cuda.Stream:
    """One stream per process: cuBLAS keeps a handle and a workspace for every stream that it has met."""
    return torch.cuda.Stream()  # type: ignore[no-untyped-call]


@dataclass(frozen=True, eq=False)
class Recording:
    """The tensors that a recorded step reads and writes."""

    x: Tensor  # [B, ...]
    labels: Tensor  # [B]
    loss: Tensor
    replay: Callable[[], object]

    @classmethod
    def of(cls, step: Step, recorder: Recorder, x: Tensor, labels: Tensor) -> Recording:
        """Record a step for batches of this shape.

        Raises:
            RuntimeError: something in it cannot be recorded, or there is no memory for it.
        """
        x, labels = x.clone(), labels.clone()
        return cls(x, labels, *recorder.record(lambda: step(x, labels)))

    def __call__(self, x: Tensor, labels: Tensor) -> Tensor:
        self.x.copy_(x)
        self.labels.copy_(labels)
        self.replay()
        return self.loss


class ReplayedStep:
    """A step that is recorded after it has been computed `WARM_UP` times, and replayed from then on.

    Batches of another shape than the first, such as the last one of an epoch, are computed. So are all batches if the
    recording fails; a line in the log says why.

    Args:
        step: after its first call it changes weights, buffers and velocities in place, and makes no new ones.
        recorder: the device's.
    """

    def __init__(self, step: Step, recorder: Recorder) -> None:
        self.step, self.recorder = step, recorder
        self.calls = 0
        self.recording: Recording | None = None
        self.shape: torch.Size | None = None  # of the batches that are replayed

    def __call__(self, x: Tensor, labels: Tensor) -> Tensor:
        """The loss; the next call may overwrite it."""
        self.calls += 1
        if self.calls == 1:
            self.shape = x.shape
        if self.calls <= WARM_UP:
            with self.recorder.apart():
                return self.step(x, labels)
        if x.shape != self.shape:
            return self.step(x, labels)
        if self.recording is None:
            try:
                self.recording = Recording.of(self.step, self.recorder, x, labels)
            except Exception as error:  # of a driver, or of an operation that asks for a number in between
                log(WARNING, "local.cuda-graph: steps are not replayed: %s", one_line(error))
                self.shape = None
                return self.step(x, labels)
        return self.recording(x, labels)
