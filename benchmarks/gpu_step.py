"""One step of local training on a device, as it is, compiled and replayed, and what it computes and moves.

Replaying is what `local.cuda-graph` does, by the same code (`fedhpro_flwr/client/replayed_step.py`). It leaves the
last, smaller batch of an epoch as it is, so the gain of a step is the most that a visit can gain; whole visits are
measured too. The library itself compiles nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from local_training import BATCH
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from client_app.visit import batch_loss
from fedhpro_flwr.client.replayed_step import WARM_UP, CudaRecorder, ReplayedStep
from fedhpro_flwr.client_data import ClientData
from fedhpro_flwr.methods import LocalLoss
from fedhpro_flwr.models import Model
from fedhpro_flwr.precision import Precision
from fedhpro_flwr.sgd import LocalSGD

STEPS = ("eager", "compiled", "CUDA graph")


@dataclass(eq=False)
class Work:
    """A step's model, losses and optimizer, and the one batch it repeats."""

    model: Model
    data: ClientData
    batch_size: int = BATCH
    extra: LocalLoss | None = None
    precision: Precision = "float32"
    loss: Callable[..., Tensor] = batch_loss
    x: Tensor = field(init=False)
    labels: Tensor = field(init=False)

    def __post_init__(self) -> None:
        assert self.data.train is not None
        self.x = self.data.encoder_inputs(self.data.train.inputs[: self.batch_size])
        self.labels = self.data.train.labels[: self.batch_size].clone()
        self.model.train()
        self.optimizer = LocalSGD(self.model.parameters(), lr=1e-3, momentum=0.9, weight_decay=0.0)

    def step(self, x: Tensor, labels: Tensor) -> Tensor:
        """Forward, backward, update."""
        self.optimizer.zero_grad()
        loss = self.loss(self.model, x, labels, self.extra, self.precision)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        return loss.detach()

    def once(self) -> Tensor:
        """A step of the one batch."""
        return self.step(self.x, self.labels)


def step_seconds(kind: str, work: Work, clock: Callable[[Callable[[], object]], float]) -> tuple[float, str]:
    """Seconds of a step of one of STEPS, and why it fell back to an eager one; "" where it did not."""
    if kind == "CUDA graph":
        if work.x.device.type != "cuda":
            return clock(work.once), "eager instead: a CUDA graph needs a GPU"
        replayed = ReplayedStep(work.step, CudaRecorder())
        for _ in range(WARM_UP):
            replayed(work.x, work.labels)
        seconds = clock(lambda: replayed(work.x, work.labels))
        return seconds, "" if replayed.recording else "eager instead; the reason is in the log"
    try:
        if kind == "compiled":
            work.loss = torch.compile(batch_loss)
        return clock(work.once), ""
    except Exception as error:  # whatever a compiler says
        work.loss = batch_loss
        return clock(work.once), f"eager instead: {type(error).__name__}: {' '.join(str(error).split())[:120]}"


def traffic_and_operations(work: Work) -> tuple[int, int]:
    """Bytes of a step if every operator read its arguments and wrote its results once; floating-point operations."""
    counted, operations = _Traffic(), FlopCounterMode(display=False)
    with operations:
        work.once()
    with counted:
        work.once()
    return counted.bytes, operations.get_total_flops()


def best_seconds(device: torch.device, work: Callable[[], object], repeats: int = 5) -> float:
    """The shortest of several calls after one that is not counted; on a GPU by its own clock."""
    work()
    return min(_once(device, work) for _ in range(repeats))


def _once(device: torch.device, work: Callable[[], object]) -> float:
    if device.type != "cuda":
        began = time.perf_counter()
        work()
        return time.perf_counter() - began
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
    start.record()
    work()
    end.record()
    end.synchronize()
    return float(start.elapsed_time(end)) / 1e3


@contextmanager
def tensor_float(allowed: bool) -> Iterator[None]:
    """Whether float32 products and convolutions may round their factors to TF32; torch lets convolutions by default."""
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, cudnn.allow_tf32
    matmul.allow_tf32 = cudnn.allow_tf32 = allowed
    try:
        yield
    finally:
        matmul.allow_tf32, cudnn.allow_tf32 = before


class _Traffic(TorchDispatchMode):  # type: ignore[no-untyped-call]
    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.bytes = 0

    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = operation(*args, **(kwargs or {}))
        if not operation.is_view:
            tensors = (leaf for leaf in tree_leaves((args, kwargs, result)) if isinstance(leaf, Tensor))
            self.bytes += sum(tensor.numel() * tensor.element_size() for tensor in tensors)
        return result
