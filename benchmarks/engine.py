"""Whole runs through `fedhpro run`: what an engine adds to a round, a client process's memory, and the quick start.

The engine's overhead is the wall clock of a round minus the clients' own work. That work is next to nothing here, as
the ten ResNet-10 clients have eight images each. Round 1 is left out, because it pays for processes and imports.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread
from typing import Any

import numpy as np
from measure import MEGABYTE, Row, peak_memory

ENGINE, QUICK_START = "engine overhead", "quick start"
ROOT = Path(__file__).resolve().parents[1]
CLIENTS, ROUNDS = 10, 8
MARK = "FEDHPRO_BENCHMARK"  # in the environment of all processes of a run, by which they are found
ACTOR = "ray::ClientAppActor"
CIFAR_SHAPED: Mapping[str, object] = {
    "data.name": "npz",
    "partition.scheme": "iid",
    "partition.num-partitions": CLIENTS,
    "model.name": "resnet10",
    "model.width": 256,
    "local.epochs": 1,
    "local.batch-size": 64,
    "local.lr": 0.01,
    "local.augment": "per-sample",
    "evaluation.clients-every": 0,
    "evaluation.every": 1000,
}


@dataclass(frozen=True)
class Finished:
    """A run that went well."""

    seconds: float
    rounds: list[dict[str, Any]]
    memory: dict[str, float]  # most bytes a process held, by pid and name
    said: str  # on both of its streams


def overhead_rows() -> Iterator[Row]:
    """Overhead of a round through Ray and in-process, and the memory of client processes."""
    with tempfile.TemporaryDirectory() as scratch:
        small, large = Path(scratch, "small.npz"), Path(scratch, "large.npz")
        write_images(small, train=8 * CLIENTS, test=20)
        write_images(large, train=50_000, test=5000)
        actors = min(os.cpu_count() or 1, CLIENTS)
        for engine, at_once in (("ray", actors), ("in-process", 1)):
            run = launch(engine, Path(scratch), {**CIFAR_SHAPED, "data.path": small, "rounds": ROUNDS})
            later = run.rounds[1:]
            work = [sum(line["client_seconds"].values()) / at_once for line in later]
            whole = [line["seconds"] for line in later]
            over = [seconds - own for seconds, own in zip(whole, work, strict=True)]
            server = statistics.median(
                sum(line["server_seconds"].values()) - line["server_seconds"]["waiting"] for line in later
            )
            yield Row(
                ENGINE,
                f"{engine}: a round of {CLIENTS} ResNet-10 clients, minus their own work, best of {len(later)} rounds",
                min(over),
                "s",
                target=1.0,
                note=f"median {statistics.median(over):.2f} s; a round takes {statistics.median(whole):.2f} s, "
                f"own work {statistics.median(work):.2f} s on {at_once} at once, server's work {server:.3f} s; "
                f"round 1 {run.rounds[0]['seconds']:.1f} s, whole run {run.seconds:.1f} s",
            )
        # The long-tailed CIFAR-10 of the paper: 12,406 images at 10 clients, here two of them for one epoch.
        real = {"data.path": large, "partition.imbalance": 100, "clients.per-round": 2, "rounds": 1}
        run = launch("ray", Path(scratch), {**CIFAR_SHAPED, **real})
        clients = {name: peak for name, peak in run.memory.items() if ACTOR in name}
        note = f"{len(clients)} actors, 50,000 CIFAR-shaped images in each; what Flower, torch and Ray take is in it"
        most = max(clients.values(), default=float("nan"))
        yield Row(ENGINE, "ray: peak memory of a client process", most / MEGABYTE, "MB", target=1200.0, note=note)


def quick_start_rows() -> Iterator[Row]:
    """`make run` after its set-up."""
    with tempfile.TemporaryDirectory() as scratch:
        run = launch("ray", Path(scratch), {})
        rounds = sum(line["seconds"] for line in run.rounds)
        note = f"of which {len(run.rounds)} rounds {rounds:.1f} s (round 1 {run.rounds[0]['seconds']:.1f} s)"
        yield Row(
            QUICK_START,
            "`make run` after set-up: digits, 30 rounds, 10 clients",
            run.seconds,
            "s",
            target=90.0,
            note=note,
        )


def launch(engine: str, scratch: Path, settings: Mapping[str, object], timeout: float | None = None) -> Finished:
    """One `fedhpro run` in a process of its own, which is killed after `timeout` seconds.

    Raises:
        RuntimeError: it failed, with what it said.
        subprocess.TimeoutExpired: it took longer.
    """
    folder, mark = scratch / uuid.uuid4().hex, uuid.uuid4().hex
    command = [sys.executable, "-m", "fedhpro_flwr.cli", "run", "--engine", engine]
    for key, value in {**settings, "run-folder": folder}.items():
        command += ["--set", f"{key}={value}"]
    packages = os.environ.get("PYTHONPATH", "")  # where Flower may lie on a machine on which nothing can be installed
    env = {**os.environ, MARK: mark, "PYTHONPATH": os.pathsep.join(filter(None, (str(ROOT), packages)))}
    memory: dict[str, float] = {}
    ended = Event()
    watcher = Thread(target=watch_memory, args=(mark, memory, ended), daemon=True)
    watcher.start()
    began = time.perf_counter()
    try:
        done = subprocess.run(command, cwd=scratch, env=env, capture_output=True, text=True, timeout=timeout)
    finally:
        seconds = time.perf_counter() - began
        ended.set()
        watcher.join()
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with status {done.returncode}:\n{done.stdout}\n{done.stderr}")
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return Finished(seconds, [json.loads(line) for line in lines], memory, done.stdout + done.stderr)


def watch_memory(mark: str, memory: dict[str, float], ended: Event) -> None:
    """Keep the peak memory of every process that has `mark` in its environment; its name may change as it works."""
    wanted = f"{MARK}={mark}".encode()
    ours: set[str] = set()
    foreign: set[str] = set()
    while not ended.wait(0.5):
        for pid in filter(str.isdigit, os.listdir("/proc")):
            if pid in foreign:
                continue
            try:
                if pid not in ours and wanted not in Path(f"/proc/{pid}/environ").read_bytes():
                    foreign.add(pid)
                    continue
                ours.add(pid)
                name = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0].decode(errors="replace")
            except OSError:
                continue
            kind = ACTOR if ACTOR in name else name
            memory[f"{pid} {kind}"] = max(peak_memory(pid), memory.get(f"{pid} {kind}", 0.0))


def write_images(path: Path, *, train: int, test: int) -> None:
    """Random images of CIFAR's shape, ten classes."""
    rng = np.random.default_rng(0)
    train_images, test_images = (rng.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8) for count in (train, test))
    train_labels, test_labels = (np.arange(count) % 10 for count in (train, test))
    np.savez(
        path,
        train_images=train_images,
        train_labels=train_labels,
        test_images=test_images,
        test_labels=test_labels,
    )
