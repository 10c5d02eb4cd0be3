"""Runs by `fedhpro run` of a second each: digits, three clients, one round of a narrow MLP.

assert run(tmp_path, method__name="fedavg") == 0
folder = only_folder(tmp_path)
"""

from __future__ import annotations

import numpy as np

from fedhpro_flwr.cli import main

SMALL = {
    "rounds": 1,
    "partition.num-partitions": 3,
    "data.train-limit": 120,
    "local.epochs": 1,
    "model.name": "mlp",
    "model.width": 8,
    "hyper-prototypes.matching-steps": 2,
}


def run(folder, *arguments, engine="in-process", **changes):
    """Exit status of `fedhpro run` with small settings."""
    settings = SMALL | {"results-dir": str(folder)} | {key.replace("__", "."): value for key, value in changes.items()}
    flags = [word for key, value in settings.items() for word in ("--set", f"{key.replace('_', '-')}={value}")]
    return main(["run", *arguments, *flags, "--engine", engine])


def only_folder(results):
    """Of the only run in the results folder."""
    (folder,) = (results / "digits").iterdir()
    return folder


def npz(path, samples=40):
    """A file of vectors of six numbers, of four classes in turn."""
    draw = np.random.default_rng(0)
    np.savez(path, images=draw.random((samples, 6)).astype(np.float32), labels=np.arange(samples) % 4)
    return path
