"""Finished runs of the real apps on small data, and their test data as files."""

import json

import numpy as np
import pytest
import torch

from client_app.app import app as client_app
from fedhpro_flwr.config import RunConfig
from fedhpro_flwr.engine import RESIDENT, federation
from fedhpro_flwr.launch.in_process import run_in_process
from server_app.app import app as server_app

SMALL = {
    "rounds": 2,
    "data.train-limit": 150,
    "partition.num-partitions": 3,
    "model.width": 8,
    "local.epochs": 1,
    "hyper-prototypes.matching-steps": 2,
    "creff.matching-steps": 2,
    "creff.epochs": 3,
    "calibration.matching-steps": 2,
    "calibration.epochs": 3,
}


class Finished:
    """A run's folder, its settings, and what its last round was tested to have."""

    def __init__(self, folder, **settings):
        RESIDENT.entries.clear()  # as a process that has just started
        self.folder = folder
        self.config = RunConfig.parse(SMALL | {"run-folder": str(folder)} | settings)
        run_in_process(server_app, client_app, self.config.partition.num_partitions, self.config.flat())
        self.tested = json.loads((folder / "metrics.jsonl").read_text().splitlines()[-1])["tested"]

    @property
    def test(self):
        """The run's test data."""
        return federation(self.config).data.test

    def npz(self):
        """The same as a file."""
        path = self.folder / "test.npz"
        np.savez(path, x=self.test.inputs.numpy(), y=self.test.labels.numpy())
        return path


@pytest.fixture(scope="session")
def digits(tmp_path_factory):
    return Finished(tmp_path_factory.mktemp("digits") / "run")


@pytest.fixture(scope="session")
def vectors(tmp_path_factory):
    """Four classes of six numbers."""
    folder = tmp_path_factory.mktemp("vectors")
    draw = np.random.default_rng(0)
    labels = np.arange(80) % 4
    samples = draw.normal(size=(80, 6)) + 2 * np.eye(6)[labels]
    np.savez(folder / "mine.npz", images=samples.astype(np.float32), labels=labels)
    settings = {
        "data.name": "npz",
        "data.path": str(folder / "mine.npz"),
        "data.train-limit": 0,
        "model.name": "mlp",
        "method.name": "fedavg",
        "rounds": 8,
    }
    return Finished(folder / "run", **settings)


@pytest.fixture(scope="session")
def texts(tmp_path_factory):
    """Two classes of texts, of which each has words of its own."""
    folder = tmp_path_factory.mktemp("texts")
    draw = np.random.default_rng(0)
    words = {"fruit": ["apple", "pear", "plum", "and"], "metal": ["iron", "tin", "zinc", "and"]}
    rows = [(name, " ".join(draw.choice(words[name], 4))) for name in ["fruit", "metal"] * 60]
    lines = [f'{name},"{text}"' for name, text in rows]
    (folder / "train.csv").write_text("\n".join(["label,text", *lines[:80]]))
    (folder / "test.csv").write_text("\n".join(["label,text", *lines[80:]]))
    settings = {
        "data.name": "text-csv", "data.path": str(folder), "data.train-limit": 0, "data.text-length": 6,
        "data.vocabulary": 50, "model.name": "fasttext", "method.name": "fedavg", "rounds": 8,
        "local.lr": 0.5,
    }  # fmt: skip
    run = Finished(folder / "run", **settings)
    run.csv = folder / "test.csv"
    return run


@pytest.fixture(scope="session")
def run_of():
    """A run with other settings, in a folder: `run_of(folder, **{"method.name": "creff"})`."""
    return Finished


@pytest.fixture
def one_thread():
    """`fedhpro predict` sets the run's number of threads for its process."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)
