"""Data that lies at the nodes, through a real SuperLink and SuperNodes; the server has none."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from cluster import Cluster
from safetensors.torch import load_file
from sklearn.datasets import load_digits

from client_app.app import app as client_app
from fedhpro_flwr.config import RunConfig, Scalar
from fedhpro_flwr.launch.in_process import run_in_process
from server_app.app import app as server_app

pytestmark = pytest.mark.simulation

CLASSES = ([0, 1, 2, 3], [3, 4, 5, 6, 7], [9])  # of each client; nobody has an 8
METHODS = ("fedhpro", "scaffold")  # of the two runs; only SCAFFOLD's clients keep something


def digits_of(classes: list[int], file: Path) -> int:
    pixels, labels = load_digits(return_X_y=True)
    mine = np.isin(labels, classes)
    images = np.rint(pixels[mine] * 255 / 16).astype(np.uint8).reshape(-1, 8, 8)
    np.savez(file, images=images, labels=labels[mine])
    return len(images)


def settings(folder: Path, method: str) -> dict[str, Scalar]:
    return RunConfig.parse(
        rounds=1,
        run_folder=str(folder),
        method__name=method,
        data__name="npz",
        data__classes="10",
        data__input_shape="1x8x8",
        partition__scheme="nodes",
        partition__num_partitions=3,
        clients__num_nodes=3,
        local__epochs=2,
    ).flat()


def test_two_runs_at_once_on_nodes_with_classes_of_their_own_and_a_server_without_data(tmp_path: Path) -> None:
    data, folder = tmp_path / "data", tmp_path / "fedhpro"
    data.mkdir()
    sizes = [digits_of(classes, data / f"client-{client}.npz") for client, classes in enumerate(CLASSES)]
    with Cluster(tmp_path / "cluster") as cluster:
        cluster.superlink()
        for client in range(3):
            kept = {"data_path": str(data / f"client-{client}.npz"), "state_path": str(tmp_path / "state")}
            cluster.supernode(client, **kept)
        runs = [cluster.submit(settings(tmp_path / method, method)) for method in METHODS]
        assert [cluster.wait(run) for run in runs] == [0, 0], cluster.logs()

    for method in METHODS:  # the bits of each alone, without a network
        alone = settings(tmp_path / "alone" / method, method) | {"data.path": str(data)}
        run_in_process(server_app, client_app, 3, alone)
        here, there = (load_file(place / method / "model.safetensors") for place in (tmp_path / "alone", tmp_path))
        torch.testing.assert_close(there, here, rtol=0, atol=0)
    (kept_by_scaffold,) = (tmp_path / "state").iterdir()
    assert {file.name for file in kept_by_scaffold.iterdir()} == {"client-0", "client-1", "client-2"}

    rounds = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [line["set_aside"] for line in rounds] == [[]]
    assert [line["tested"] for line in rounds] == [None]
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["accuracy-of"] == "mean over clients"
    for client, classes in enumerate(CLASSES):
        said = summary["clients"][client]
        assert [label for label, share in enumerate(said["class-accuracy"]) if share is not None] == classes
        # What each trains on is known from its weight in the mean; what it tests on is a fifth of each class.
        assert rounds[0]["clients"][client]["num-examples"] + said["test-examples"] == sizes[client]
    assert json.loads((folder / "partition.json").read_text())["counts"] is None
