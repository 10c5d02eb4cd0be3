"""Whole runs at the sizes that the largest data sets need: a thousand clients, and a thousand classes.

Inputs are vectors, for an MLP, not pictures: so the method and the engine are measured, not convolutions.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from engine import Finished, launch
from measure import MEGABYTE, Row

SCALE = "scale"
WIDTH = 512  # D
COMMON: Mapping[str, object] = {
    "data.name": "npz",
    "partition.scheme": "shards",
    "model.name": "mlp",
    "model.width": WIDTH,
    "local.epochs": 1,
    "local.lr": 0.01,
    "evaluation.clients-every": 0,
}
THOUSAND = 1000


def scale_rows() -> Iterator[Row]:
    """Seconds and memory of a round with 1,000 clients through both engines, and with 1,000 classes."""
    with tempfile.TemporaryDirectory() as scratch:
        many_clients, many_classes = Path(scratch, "clients.npz"), Path(scratch, "classes.npz")
        write_vectors(many_clients, classes=10, per_class=2000)
        write_vectors(many_classes, classes=THOUSAND, per_class=10)
        settings = {"data.path": many_clients, "partition.num-partitions": THOUSAND, "partition.classes-per-client": 2}
        settings["model.width"] = 64
        for engine in ("in-process", "ray"):
            run = launch(engine, Path(scratch), {**COMMON, **settings, "rounds": 3})
            yield from rows(f"{engine}: 1,000 clients, all in every round, C = 10, D = 64", run)
        settings = {"data.path": many_classes, "partition.num-partitions": 20, "partition.classes-per-client": 50}
        run = launch("in-process", Path(scratch), {**COMMON, **settings, "rounds": 3})
        yield from rows(f"in-process: 1,000 classes, 20 clients of 50 classes, D = {WIDTH}", run)
        matching = statistics.median(line["server_seconds"]["matching"] for line in run.rounds)
        yield Row(SCALE, "of it the server's update, 30 steps, K = 5", matching, "s", target=10.0)
        up = run.rounds[-1]["bytes_up"]["class-gradients"] / 20
        whole = THOUSAND * WIDTH * 4
        note = f"the classes it holds; all of them would be {whole / MEGABYTE:.2f} MB"
        yield Row(
            SCALE, "class gradients that a client sends", up / MEGABYTE, "MB", target=0.06 * whole / MEGABYTE, note=note
        )


def rows(what: str, run: Finished) -> Iterator[Row]:
    """A round's seconds, and the most memory that a process of the run held."""
    later = [line["seconds"] for line in run.rounds[1:]]
    own = statistics.median(sum(line["client_seconds"].values()) for line in run.rounds[1:])
    note = f"clients' own work {own:.1f} s, summed; whole run {run.seconds:.0f} s"
    yield Row(SCALE, f"{what}: a round", statistics.median(later), "s", note=note)
    name, most = max(run.memory.items(), key=lambda item: item[1])
    note = f"the largest of {len(run.memory)} processes: {name.split()[-1].rsplit('/', 1)[-1]}"
    yield Row(SCALE, f"{what}: peak memory", most / MEGABYTE, "MB", target=2000.0, note=note)


def write_vectors(path: Path, *, classes: int, per_class: int, width: int = 64) -> None:
    """Gaussian clouds, one a class: float32 vectors [N, width] and a tenth as many to test on."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(classes, width)).astype(np.float32)
    y_train, y_test = (np.repeat(np.arange(classes), count) for count in (per_class, max(per_class // 10, 1)))
    x_train, x_test = (
        centres[labels] + rng.normal(size=(len(labels), width)).astype(np.float32) for labels in (y_train, y_test)
    )
    np.savez(path, x_train=x_train, y_train=y_train, x_test=x_test, y_test=y_test)
