"""What a run may not depend on: how often the same client is there, and which numbers clients and classes have.

Every client holds its samples itself and trains on all of them at once, so that no draw tells clients apart.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file
from sklearn.datasets import load_digits

from client_app.app import app as client_app
from fedhpro_flwr.config import RunConfig, Scalar
from fedhpro_flwr.launch.in_process import run_in_process
from fedhpro_flwr.runs.run_folder import read_rounds
from server_app.app import app as server_app

AT_ONCE: Mapping[str, Scalar] = {
    "rounds": 3,
    "data.name": "npz",
    "data.classes": 10,
    "data.input-shape": "64",
    "partition.scheme": "nodes",
    "model.name": "mlp",
    "model.width": 8,
    "local.epochs": 2,
    "local.batch-size": 1000,
    "class-gradients.samples-per-class": 0,
    "hyper-prototypes.matching-steps": 3,
    "creff.epochs": 3,
    "creff.matching-steps": 2,
    "calibration.epochs": 3,
    "calibration.matching-steps": 2,
}
HEAD = ("head.weight", "head.bias")
PIXELS, LABELS = load_digits(return_X_y=True)
TEST = np.arange(300, 500)
HELD = ([0, 1, 2, 3, 4, 5], [3, 4, 5, 6, 7, 8], [0, 2, 4, 8, 9])  # classes of three clients


def places(folder: Path, clients: Iterable[np.ndarray], labels: np.ndarray = LABELS) -> Path:
    """client-0.npz, client-1.npz, … of these samples, and server.npz."""
    folder.mkdir()
    tested = {"x_test": PIXELS[TEST] / 16, "y_test": labels[TEST]}
    for client, ids in enumerate(clients):
        np.savez(folder / f"client-{client}.npz", x_train=PIXELS[ids] / 16, y_train=labels[ids], **tested)
    np.savez(folder / "server.npz", images=PIXELS[TEST] / 16, labels=labels[TEST])
    return folder


def played(data: Path, folder: Path, settings: Mapping[str, Scalar]) -> dict[str, np.ndarray]:
    """The model that a run leaves in a folder."""
    clients = len(list(data.glob("client-*")))
    own = {"data.path": str(data), "partition.num-partitions": clients, "clients.num-nodes": clients}
    config = RunConfig.parse(AT_ONCE | own | settings | {"run-folder": str(folder)})
    run_in_process(server_app, client_app, clients, config.flat())
    return load_file(folder / "model.safetensors")


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"preset": "tuned"},
        {"preset": "reference", "class-gradients.augment": "none"},
        {"aggregation.model": "median", "aggregation.class-gradients": "trimmed-mean"},
        {"method.name": "scaffold"},
        {"method.name": "creff"},
        {"method.name": "fedproto"},
        {"method.name": "fedsa"},
    ],
    ids=lambda settings: "-".join(map(str, settings.values())) or "paper",
)
def test_three_clients_with_the_same_samples_are_as_one(settings, tmp_path):
    one, three = (
        played(places(tmp_path / f"at-{clients}", [np.arange(100)] * clients), tmp_path / f"run-{clients}", settings)
        for clients in (1, 3)
    )
    for name, tensor in one.items():
        np.testing.assert_allclose(three[name], tensor, rtol=0, atol=1e-4, err_msg=name)  # thirds are rounded


@pytest.mark.parametrize(
    "settings",
    [
        {"method.name": "fedavg"},
        {"method.name": "scaffold"},
        {"method.name": "moon"},
        {"method.name": "averaged"},  # HPCL and HPAL; hyper-prototypes begin with a draw of their own for each class
        {"method.name": "averaged", "losses.margin-pairs": "far", "aggregation.model": "median"},
        {"losses.hpcl": "off", "losses.hpal": "off", "losses.logit-adjustment": 0.5},
    ],
    ids=lambda settings: "-".join(map(str, settings.values())),
)
def test_other_numbers_of_classes_and_clients_give_the_same_model_with_its_classes_so_numbered(settings, tmp_path):
    renumbered = np.random.default_rng(3).permutation(10)
    clients = [ids[np.isin(LABELS[ids], held)] for ids, held in zip(np.split(np.arange(300), 3), HELD, strict=True)]
    first = places(tmp_path / "first", clients)
    other = places(tmp_path / "other", [clients[number] for number in (2, 0, 1)], renumbered[LABELS])
    start = played(first, tmp_path / "start", {"method.name": "fedavg", "rounds": 1})
    with safe_open(tmp_path / "start" / "model.safetensors", "numpy") as file:
        described = file.metadata()
    save_file(in_order(start, renumbered), tmp_path / "renumbered.safetensors", metadata=described)
    begun = {"model.path": str(tmp_path / "start" / "model.safetensors")}
    expected = in_order(played(first, tmp_path / "a", settings | begun), renumbered)
    found = played(other, tmp_path / "b", settings | {"model.path": str(tmp_path / "renumbered.safetensors")})
    for name, tensor in expected.items():
        np.testing.assert_allclose(found[name], tensor, rtol=0, atol=1e-5, err_msg=name)
        assert np.abs(found[name] - in_order(start, renumbered)[name]).max() > 1e-3  # it trained
    a, b = (read_rounds(tmp_path / run)[-1]["tested"]["class_accuracy"] for run in "ab")
    assert [b[number] for number in renumbered] == a


def in_order(model: Mapping[str, np.ndarray], renumbered: np.ndarray) -> dict[str, np.ndarray]:
    """A model whose head tells class c as number `renumbered[c]`."""
    was = np.argsort(renumbered)
    return {name: tensor[was] if name in HEAD else tensor for name, tensor in model.items()}
