"""A round on a GPU: ten ResNet-10 clients with 1,240 CIFAR-shaped images each, ten epochs, in one process.

    python benchmarks/gpu.py                                      # on a GPU, below ten minutes
    python benchmarks/gpu.py --compile                            # also with torch.compile
    python benchmarks/gpu.py --device cpu --images 64 --epochs 1  # to see that it works

It prints each number as soon as it is there, in this order:

- what the card can do: a large product, a large copy;
- whether a visit repeats its bits, replayed as a CUDA graph too, and the memory that it takes and leaves;
- whole rounds;
- the kernels of an epoch, those first that take longest;
- local training in its variants, and the share of the card's limits that each reaches;
- the step alone: as it is, compiled, and replayed as a CUDA graph.

What fails is told, and the next is measured. After `--minutes` nothing is begun. Operations are products and
convolutions, forward and backward, counted by torch's FlopCounterMode. Traffic is what would move if every operator
read its arguments and wrote its results once, caches aside.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

import torch  # noqa: E402
from engine import CIFAR_SHAPED, launch, write_images  # noqa: E402
from gpu_training import Measured, Section, bits_and_memory, limits, profiles, steps, training  # noqa: E402
from measure import Row, machine  # noqa: E402

from fedhpro_flwr.precision import Precision, repeat_on_gpu  # noqa: E402

ROUNDS, CLIENTS = 4, 10  # of which the first round is not counted
RUN_SECONDS = 90.0  # that a run may take
RUNS: tuple[tuple[Precision, bool, bool], ...] = (  # precision, replayed, deterministic; what matters most comes first
    ("float32", False, True),
    ("float32", True, True),
    ("bfloat16", True, True),
    ("float32", True, False),
    ("bfloat16", False, True),
    ("bfloat16", True, False),
    ("float32", False, False),
)


def main() -> None:
    """Measure and show."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--images", type=int, default=1240, help="of a client")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--batch-sizes", default="64,128,256", help="of local training; the first is the round's")
    parser.add_argument("--compile", action="store_true", help="also torch.compile, which takes a minute or more")
    parser.add_argument("--minutes", type=float, default=8.0, help="after which nothing is begun")
    options = parser.parse_args()
    device = torch.device(options.device)
    if device.type == "cuda":
        if not torch.cuda.is_available():
            parser.error("no CUDA device is seen; --device cpu --images 64 --epochs 1 shows what would be measured")
        repeat_on_gpu(True)
        card = torch.cuda.get_device_properties(device)
        cudnn = torch.backends.cudnn.version()  # type: ignore[no-untyped-call]
        print(f"{card.name}, {card.total_memory / 1e9:.0f} GB, CUDA {torch.version.cuda}, cuDNN {cudnn}")
    torch.set_num_threads(1)
    print(", ".join(f"{key} {value}" for key, value in machine().items()), flush=True)
    sizes = [int(size) for size in options.batch_sizes.split(",")]
    ends = time.monotonic() + 60 * options.minutes
    of = Measured(device, options.images, options.epochs, sizes, compiled=options.compile, ends=ends)
    if failed := measure(of, (limits, bits_and_memory, rounds, profiles, training, steps)):
        sys.exit(f"not measured to the end: {', '.join(failed)}")


def measure(of: Measured, sections: Iterable[Section]) -> list[str]:
    """Show what each section measures as soon as it is there; the names of those that failed or were not finished."""
    failed = []
    for section in sections:
        print(f"\n{section.__name__}", flush=True)
        try:
            of.refuse_late()
            for found in section(of):
                print(found if isinstance(found, str) else shown(found), flush=True)
                of.refuse_late()
        except Exception as error:  # whatever a driver says: the next section may work
            print(f"{section.__name__}: {reason(error)}", flush=True)
            failed.append(section.__name__)
    return failed


def shown(row: Row) -> str:
    """A number with what it is of."""
    verdict = f", target {row.target:g}: {row.verdict}" if row.target is not None else ""
    return f"{row.section}: {row.what}: {row.value:.4g} {row.unit}{verdict}" + (f" ({row.note})" if row.note else "")


def reason(error: Exception) -> str:
    """Why something was not measured: the end of what was said, which names the cause."""
    return f"NOT MEASURED, {type(error).__name__}: {str(error)[-1500:]}"


def rounds(of: Measured) -> Iterator[Row | str]:
    """Rounds of FedHPro through `fedhpro run --engine in-process`."""
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch, "images.npz")
        write_images(file, train=of.images * CLIENTS, test=100)
        for precision, replayed, deterministic in RUNS if of.on_gpu else RUNS[:1]:
            changes = {
                **CIFAR_SHAPED, "data.path": file, "rounds": ROUNDS, "device": of.device.type,
                "local.precision": precision, "local.cuda-graph": str(replayed).lower(), "local.epochs": of.epochs,
                "local.batch-size": of.sizes[0], "deterministic": str(deterministic).lower(),
            }  # fmt: skip
            name = precision + ", replayed" * replayed + ", any order" * (not deterministic)
            try:
                run = launch("in-process", Path(scratch), changes, timeout=min(RUN_SECONDS, of.seconds_left))
            except Exception as error:
                yield f"a round: {name}: {reason(error)}"
                continue
            lines = run.rounds[1:]
            whole = statistics.median(line["seconds"] for line in lines)
            note = ", ".join(
                f"{side}'s {phase} {statistics.median(line[f'{side}_seconds'][phase] for line in lines):.2f}"
                for side in ("client", "server")
                for phase in lines[0][f"{side}_seconds"]
            )
            note += f"; round 1 {run.rounds[0]['seconds']:.1f} s, the command {run.seconds:.0f} s"
            note += "; NOT REPLAYED, see the log" * ("steps are not replayed" in run.said)
            what = f"{name}, {CLIENTS} clients x {of.images} images x {of.epochs}"
            yield Row("a round", what, whole, "s", target=3.0 if of.on_gpu else None, note=note)
            yield from sorted(
                {line.strip() for line in run.said.splitlines() if "WARNING" in line or "Warning" in line}
            )


if __name__ == "__main__":
    main()
