"""Data that lies at the nodes, through a real SuperLink and SuperNodes; the server has none."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from cluster import Cluster
from sklearn.datasets import load_digits

from fedhpro_flwr.config import RunConfig

pytestmark = pytest.mark.simulation

CLASSES = ([0, 1, 2, 3], [3, 4, 5, 6, 7], [9])  # of each client; nobody has an 8


def digits_of(classes: list[int], file: Path) -> int:
    pixels, labels = load_digits(return_X_y=True)
    mine = np.isin(labels, classes)
    images = np.rint(pixels[mine] * 255 / 16).astype(np.uint8).reshape(-1, 8, 8)
    np.savez(file, images=images, labels=labels[mine])
    return len(images)


def test_three_nodes_with_classes_of_their_own_and_a_server_without_data(tmp_path: Path) -> None:
    sizes = [digits_of(classes, tmp_path / f"hospital-{client}.npz") for client, classes in enumerate(CLASSES)]
    folder = tmp_path / "run"
    config = RunConfig.parse(
        rounds=1,
        run_folder=str(folder),
        data__name="npz",
        data__classes="10",
        data__input_shape="1x8x8",
        partition__scheme="nodes",
        partition__num_partitions=3,
        clients__num_nodes=3,
        local__epochs=2,
    )
    with Cluster(tmp_path / "cluster") as cluster:
        cluster.superlink()
        for client in range(3):
            kept = {"data_path": str(tmp_path / f"hospital-{client}.npz"), "state_path": str(tmp_path / "state")}
            cluster.supernode(client, **kept)
        assert cluster.run(config.flat()) == 0, cluster.logs()

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
