"""A round on a GPU: ten ResNet-10 clients with 1,240 CIFAR-shaped images each, ten epochs, in one process.

    python benchmarks/gpu.py                                      # on a GPU, some minutes
    python benchmarks/gpu.py --compile                            # also with torch.compile
    python benchmarks/gpu.py --device cpu --images 64 --epochs 1  # to see that it works

It prints, in this order:

- what the card can do: a large product, a large copy;
- local training in its variants, and the share of that which each reaches;
- the step alone: as it is, compiled, and replayed as a CUDA graph;
- whole rounds, and the kernels that take longest in an epoch.

Operations are products and convolutions, forward and backward, counted by torch's FlopCounterMode. Traffic is what
would move if every operator read its arguments and wrote its results once, caches aside.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from collections.abc import Iterator
from functools import partial
from itertools import product
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

import torch  # noqa: E402
from engine import CIFAR_SHAPED, launch, write_images  # noqa: E402
from gpu_step import STEPS, Work, best_seconds, step_seconds, tensor_float, traffic_and_operations  # noqa: E402
from local_training import images, losses, new_model  # noqa: E402
from measure import Row, machine  # noqa: E402
from rich.console import Console  # noqa: E402
from run import table  # noqa: E402

from client_app.visit import train  # noqa: E402
from fedhpro_flwr.config import RunConfig, Scalar  # noqa: E402
from fedhpro_flwr.precision import Precision, repeat_on_gpu  # noqa: E402
from fedhpro_flwr.seeding import Draws  # noqa: E402
from fedhpro_flwr.settings.sections import LocalOptions  # noqa: E402

ROUNDS, CLIENTS = 4, 10  # of which the first round is not counted
TERA, GIGA = 1e12, 1e9
VARIANTS: tuple[tuple[str, Precision, bool], ...] = (  # what products and convolutions compute in, TF32 allowed
    ("float32", "float32", False),
    ("TF32", "float32", True),
    ("bfloat16", "bfloat16", True),
)
LAYOUTS = {"channels_last": torch.channels_last, "contiguous": torch.contiguous_format}


def main() -> None:
    """Measure and show."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--images", type=int, default=1240, help="of a client")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--batch-sizes", default="64,128,256", help="of local training; the first is the round's")
    parser.add_argument("--compile", action="store_true", help="also torch.compile, which takes a minute or more")
    parser.add_argument("--any-order", action="store_true", help="deterministic = false")
    options = parser.parse_args()
    device = torch.device(options.device)
    if device.type == "cuda":
        if not torch.cuda.is_available():
            parser.error("no CUDA device is seen; --device cpu --images 64 --epochs 1 shows what would be measured")
        repeat_on_gpu(not options.any_order)
        print(torch.cuda.get_device_name(), f"{torch.cuda.get_device_properties(device).total_memory / GIGA:.0f} GB")
    torch.set_num_threads(1)
    sizes = [int(size) for size in options.batch_sizes.split(",")]
    limits = {name: product_limit(device, name) for name, _, _ in variants(device)}
    copy = copy_limit(device)
    rows = [Row("limits", f"product of {name} matrices", limit / TERA, "TFLOP/s") for name, limit in limits.items()]
    rows.append(Row("limits", "copy, read and write", copy / GIGA, "GB/s"))
    rows += training_rows(device, options.images, options.epochs, sizes, limits, copy)
    rows += step_rows(device, min(sizes[0], options.images), compiled=options.compile)
    rows += round_rows(options.device, options.images, options.epochs, sizes[0], deterministic=not options.any_order)
    console = Console(highlight=False, width=160)
    console.print(table(rows))
    console.print(", ".join(f"{key} {value}" for key, value in machine().items()), soft_wrap=True)
    console.print(profile(device, options.images, sizes[0]), soft_wrap=True, markup=False)


def variants(device: torch.device) -> list[tuple[str, Precision, bool]]:
    """VARIANTS that a device has; TF32 is a GPU's."""
    return [variant for variant in VARIANTS if device.type == "cuda" or variant[0] != "TF32"]


def product_limit(device: torch.device, name: str) -> float:
    """Operations a second of a large square product."""
    size = 8192 if device.type == "cuda" else 512
    dtype = torch.bfloat16 if name == "bfloat16" else torch.float32
    a, b = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    with tensor_float(name != "float32"):
        return 2 * size**3 / best_seconds(device, lambda: a @ b)


def copy_limit(device: torch.device) -> float:
    """Bytes a second that are read and written by a large copy."""
    source = torch.empty((1 << 30) if device.type == "cuda" else (1 << 26), dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return 2 * source.numel() / best_seconds(device, lambda: target.copy_(source))


def training_rows(
    device: torch.device, count: int, epochs: int, sizes: list[int], limits: dict[str, float], copy: float
) -> Iterator[Row]:
    """Local training of one client as `client_app.visit.train` does it, and the shares of the limits."""
    data = images(count).to(device)
    for size in sizes:
        work = Work(new_model().to(device), data, min(size, count), losses(device))
        traffic, operations = traffic_and_operations(work)
        steps_worth = count / work.batch_size * epochs
        for name, precision, tf32 in variants(device):
            for layout, replayed in (("channels_last", False), ("channels_last", True), ("contiguous", False)):
                if replayed and device.type != "cuda":
                    continue
                model = new_model(LAYOUTS[layout]).to(device)
                local = local_settings(epochs, size, precision, cuda_graph=replayed)
                visit = partial(train, model, data, local, work.extra, Draws(0))
                with tensor_float(tf32):
                    seconds = best_seconds(device, visit, repeats=2)
                reached = operations * steps_worth / seconds
                what = f"{name}, batch {size}, {layout}" + ", replayed" * replayed
                moved = traffic * steps_worth * (0.5 if precision == "bfloat16" else 1.0) / seconds
                note = (
                    f"{count * epochs / seconds:,.0f} images/s, {reached / TERA:.2f} TFLOP/s = "
                    f"{reached / limits[name]:.0%} of the product, traffic {moved / copy:.0%} of the copy"
                )
                yield Row("a client", what, seconds, "s", note=note)


def step_rows(device: torch.device, batch_size: int, *, compiled: bool) -> Iterator[Row]:
    """One step of a full batch: eager, compiled, captured."""
    for name, precision, tf32 in variants(device):
        for kind in STEPS:
            if kind == "compiled" and not compiled:
                continue
            work = Work(new_model().to(device), images(batch_size).to(device), batch_size, losses(device), precision)
            with tensor_float(tf32):
                seconds, problem = step_seconds(kind, work, lambda step: best_seconds(device, step, repeats=20))
            yield Row("a step", f"{name}, batch {batch_size}, {kind}", 1e3 * seconds, "ms", note=problem)


def round_rows(device: str, count: int, epochs: int, batch_size: int, *, deterministic: bool) -> Iterator[Row]:
    """Rounds of FedHPro through `fedhpro run --engine in-process`."""
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch, "images.npz")
        write_images(file, train=count * CLIENTS, test=100)
        for precision, replayed in product(("float32", "bfloat16"), (False, True)[: 1 + (device == "cuda")]):
            changes = {
                **CIFAR_SHAPED, "data.path": file, "rounds": ROUNDS, "device": device, "local.precision": precision,
                "local.cuda-graph": str(replayed).lower(),
                "local.epochs": epochs, "local.batch-size": batch_size, "deterministic": str(deterministic).lower(),
            }  # fmt: skip
            lines = launch("in-process", Path(scratch), changes).rounds[1:]
            whole = statistics.median(line["seconds"] for line in lines)
            training = statistics.median(line["client_seconds"]["local-training"] for line in lines)
            clients = statistics.median(sum(line["client_seconds"].values()) for line in lines)
            target = 3.0 if device == "cuda" and precision == "float32" else None
            steps = precision + ", replayed" * replayed
            yield Row("a round", f"{steps}, {CLIENTS} clients x {count} images x {epochs}", whole, "s", target=target)
            yield Row("a round", f"{steps}: of it the clients' own", clients, "s", note=f"training {training:.2f} s")


def local_settings(
    epochs: int, batch_size: int, precision: Precision = "float32", *, cuda_graph: bool = False
) -> LocalOptions:
    """`local.*` of the round."""
    chosen: dict[str, Scalar] = {
        "local.epochs": epochs, "local.batch-size": batch_size, "local.precision": precision,
        "local.cuda-graph": cuda_graph, "local.lr": 0.01, "local.momentum": 0.0, "local.augment": "per-sample",
    }  # fmt: skip
    return RunConfig.parse(chosen).local


def profile(device: torch.device, count: int, batch_size: int) -> str:
    """The kernels that took longest in an epoch, by torch's profiler."""
    data, model = images(count).to(device), new_model().to(device)
    local = local_settings(1, batch_size)
    extra = losses(device)
    train(model, data, local, extra, Draws(0))
    with torch.profiler.profile() as profiler:
        train(model, data, local, extra, Draws(0))
    key = "self_cuda_time_total" if device.type == "cuda" else "self_cpu_time_total"
    return str(profiler.key_averages().table(sort_by=key, row_limit=15, max_name_column_width=60))


if __name__ == "__main__":
    main()
