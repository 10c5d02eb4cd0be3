"""Local training on a GPU: whether it repeats its bits, its memory, its kernels, and its share of the card's limits."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial

import torch
from gpu_step import STEPS, Work, best_seconds, step_seconds, tensor_float, traffic_and_operations
from local_training import images, losses, new_model
from measure import Row
from torch import Tensor

from client_app.visit import train
from fedhpro_flwr.config import RunConfig, Scalar
from fedhpro_flwr.precision import Precision
from fedhpro_flwr.seeding import Draws
from fedhpro_flwr.settings.sections import LocalOptions

TERA, GIGA, MEGA = 1e12, 1e9, 1e6
VARIANTS: tuple[tuple[str, Precision, bool], ...] = (  # what products and convolutions compute in, TF32 allowed
    ("float32", "float32", False),
    ("TF32", "float32", True),
    ("bfloat16", "bfloat16", True),
)
LAYOUTS = {"channels_last": torch.channels_last, "contiguous": torch.contiguous_format}
VISITS: tuple[tuple[Precision, bool], ...] = (  # precision, replayed
    ("float32", False),
    ("float32", True),
    ("bfloat16", False),
    ("bfloat16", True),
)


@dataclass
class Measured:
    """What is measured, and what of it later sections need."""

    device: torch.device
    images: int  # of a client
    epochs: int
    sizes: list[int]  # batch sizes; the first is the round's
    compiled: bool = False
    limits: dict[str, float] = field(default_factory=dict)  # operations a second of a product, by variant
    copy: float = float("nan")  # bytes a second
    ends: float = float("inf")  # time.monotonic() from which on nothing is begun

    @property
    def on_gpu(self) -> bool:
        """Whether there is one; a CPU shows only that the benchmark works."""
        return self.device.type == "cuda"

    @property
    def seconds_left(self) -> float:
        """Until nothing more is begun."""
        return self.ends - time.monotonic()

    def refuse_late(self) -> None:
        """Check that there is time to begin something.

        Raises:
            TimeoutError: there is none.
        """
        if self.seconds_left <= 0:
            raise TimeoutError("the time is over")

    @property
    def variants(self) -> list[tuple[str, Precision, bool]]:
        """VARIANTS that the device has; TF32 is a GPU's."""
        return [variant for variant in VARIANTS if self.on_gpu or variant[0] != "TF32"]

    def local(self, precision: Precision, *, replayed: bool, size: int = 0, epochs: int = 0) -> LocalOptions:
        """`local.*` of the round, or of other batches or epochs."""
        chosen: dict[str, Scalar] = {
            "local.epochs": epochs or self.epochs,
            "local.batch-size": size or self.sizes[0],
            "local.precision": precision,
            "local.cuda-graph": replayed,
            "local.lr": 0.01,
            "local.momentum": 0.0,
            "local.augment": "per-sample",
        }
        return RunConfig.parse(chosen).local


Section = Callable[[Measured], Iterator[Row | str]]


def limits(of: Measured) -> Iterator[Row | str]:
    """A large square product, and a large copy."""
    size = 8192 if of.on_gpu else 512
    for name, _, _ in of.variants:
        dtype = torch.bfloat16 if name == "bfloat16" else torch.float32
        a, b = (torch.randn(size, size, device=of.device, dtype=dtype) for _ in range(2))
        with tensor_float(name != "float32"):
            of.limits[name] = 2 * size**3 / best_seconds(of.device, partial(torch.matmul, a, b))
        yield Row("limits", f"product of {name} matrices", of.limits[name] / TERA, "TFLOP/s")
    source = torch.empty((1 << 30) if of.on_gpu else (1 << 26), dtype=torch.uint8, device=of.device)
    target = torch.empty_like(source)
    of.copy = 2 * source.numel() / best_seconds(of.device, lambda: target.copy_(source))
    yield Row("limits", "copy, read and write", of.copy / GIGA, "GB/s")


def bits_and_memory(of: Measured) -> Iterator[Row | str]:
    """How many tensors of the model differ after the same visit, and what a visit takes and leaves on the card."""
    data, extra = images(of.images).to(of.device), losses(of.device)
    first: dict[Precision, dict[str, Tensor]] = {}
    for precision, replayed in (visit for visit in VISITS[: len(VISITS) if of.on_gpu else 1] for _ in range(2)):
        model, held = new_model().to(of.device), torch.cuda.memory_allocated() if of.on_gpu else 0
        if of.on_gpu:
            torch.cuda.reset_peak_memory_stats()
        train(model, data, of.local(precision, replayed=replayed), extra, Draws(0))
        what = precision + ", replayed" * replayed
        now = {name: tensor.cpu() for name, tensor in model.state_dict().items()}
        if (before := first.setdefault(precision, now)) is not now:
            differ = sum(not torch.equal(tensor, now[name]) for name, tensor in before.items())
            yield Row("same bits", f"{what}: tensors that differ", differ, f"of {len(now)}", target=0)
        if of.on_gpu:
            left, most = torch.cuda.memory_allocated() - held, torch.cuda.max_memory_allocated() - held
            note = f"left on the card {left / MEGA:.2f} MB, kept by torch {torch.cuda.memory_reserved() / MEGA:,.0f} MB"
            yield Row("memory", f"{what}: the most of a visit", most / MEGA, "MB", note=note)


def profiles(of: Measured) -> Iterator[Row | str]:
    """The kernels that took longest in an epoch, and how many a step has, by torch's profiler."""
    data, extra = images(of.images).to(of.device), losses(of.device)
    key = "self_device_time_total" if of.on_gpu else "self_cpu_time_total"
    for precision, replayed in VISITS if of.on_gpu else VISITS[:1]:
        model, local = new_model().to(of.device), of.local(precision, replayed=replayed, epochs=2)
        train(model, data, local, extra, Draws(0))
        with torch.profiler.profile() as profiler:
            train(model, data, local, extra, Draws(0))
        events = profiler.key_averages()
        if of.on_gpu:
            done = [event for event in events if event.device_type.name == "CUDA"]
            count = 2 * -(-of.images // of.sizes[0])  # of steps
            busy = sum(event.self_device_time_total for event in done) / 1e3
            what = precision + ", replayed" * replayed
            note = f"the card works {busy / count:.3f} ms a step"
            yield Row("profile", f"{what}: kernels and copies", sum(e.count for e in done) / count, "a step", note=note)
        yield str(events.table(sort_by=key, row_limit=20, max_name_column_width=70))


def training(of: Measured) -> Iterator[Row | str]:
    """Local training of one client as `client_app.visit.train` does it, and the shares of the limits."""
    data, extra = images(of.images).to(of.device), losses(of.device)
    for size in of.sizes:
        traffic, operations = traffic_and_operations(
            Work(new_model().to(of.device), data, min(size, of.images), losses(of.device))
        )
        worth = of.images / min(size, of.images) * of.epochs  # in steps
        for name, precision, tf32 in of.variants:
            for layout, replayed in (("channels_last", False), ("channels_last", True), ("contiguous", False)):
                if replayed and not of.on_gpu:
                    continue
                model = new_model(LAYOUTS[layout]).to(of.device)
                visit = partial(train, model, data, of.local(precision, replayed=replayed, size=size), extra, Draws(0))
                with tensor_float(tf32):
                    seconds = best_seconds(of.device, visit, repeats=2)
                reached = operations * worth / seconds
                moved = traffic * worth * (0.5 if precision == "bfloat16" else 1.0) / seconds
                note = (
                    f"{of.images * of.epochs / seconds:,.0f} images/s, {reached / TERA:.2f} TFLOP/s = "
                    f"{reached / of.limits[name]:.1%} of the product, traffic {moved / of.copy:.0%} of the copy"
                )
                what = f"{name}, batch {size}, {layout}" + ", replayed" * replayed
                yield Row("a client", what, seconds, "s", note=note)


def steps(of: Measured) -> Iterator[Row | str]:
    """One step of a full batch: eager, compiled, captured."""
    size = min(of.sizes[0], of.images)
    for name, precision, tf32 in of.variants:
        for kind in STEPS:
            if kind == "compiled" and not of.compiled:
                continue
            work = Work(new_model().to(of.device), images(size).to(of.device), size, losses(of.device), precision)
            with tensor_float(tf32):
                seconds, problem = step_seconds(kind, work, lambda step: best_seconds(of.device, step, repeats=20))
            yield Row("a step", f"{name}, batch {size}, {kind}", 1e3 * seconds, "ms", note=problem)
