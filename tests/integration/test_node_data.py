"""Runs whose clients have data of their own, through the real apps: with and without data at the server."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from safetensors.torch import load_file
from sklearn.datasets import load_digits

from client_app.app import app as client_app
from fedhpro_flwr.config import RunConfig
from fedhpro_flwr.launch.in_process import InProcessGrid, run_in_process
from fedhpro_flwr.report.build import write_report
from fedhpro_flwr.runs.closing import closing
from fedhpro_flwr.runs.progress import RunProgress
from server_app.app import app as server_app

CLASSES = ([0, 1, 2, 3], [3, 4, 5, 6, 7], [9], [0, 9])  # of each client; nobody has an 8


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """client-0.npz .. client-3.npz."""
    folder = tmp_path_factory.mktemp("places")
    pixels, labels = load_digits(return_X_y=True)
    images = np.rint(pixels * 255 / 16).astype(np.uint8).reshape(-1, 8, 8)
    for client, classes in enumerate(CLASSES):
        mine = np.flatnonzero(np.isin(labels, classes))[client::4]
        np.savez(folder / f"client-{client}.npz", images=images[mine], labels=labels[mine])
    return folder


def run(folder: Path, places: Path | str, **settings: Any) -> dict[str, Any]:
    own = {
        "data.name": "npz",
        "data.path": str(places),
        "data.classes": 10,
        "data.input-shape": "1x8x8",
        "partition.scheme": "nodes",
        "partition.num-partitions": 4,
        "rounds": 3,
        "local.epochs": 1,
        "model.width": 16,
        "run-folder": str(folder),
    }
    run_in_process(server_app, client_app, 4, RunConfig.parse(own | settings).flat())
    return dict(json.loads((folder / "summary.json").read_text()))


def bits(folder: Path) -> dict[str, bytes]:
    files = {path.name: load_file(path) for path in sorted(folder.glob("*.safetensors"))}
    return {f"{file} {name}": t.numpy().tobytes() for file, tensors in files.items() for name, t in tensors.items()}


@pytest.fixture(scope="module")
def without_server_data(places: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("without") / "run"
    run(folder, places)
    return folder


def test_the_clients_own_tests_carry_the_result(without_server_data: Path) -> None:
    summary = json.loads((without_server_data / "summary.json").read_text())
    assert summary["accuracy-of"] == "mean over clients" and summary["last-round"] is None
    tested = [
        [label for label, share in enumerate(c["class-accuracy"]) if share is not None] for c in summary["clients"]
    ]
    assert tested == [list(classes) for classes in CLASSES]
    assert summary["clients-tested"]["head"] is None
    table = json.loads((without_server_data / "partition.json").read_text())
    assert (table["counts"], table["fingerprint"], len(table["class-names"])) == (None, "", 10)


def test_it_is_shown_and_reported_without_a_table_of_classes(without_server_data: Path, tmp_path: Path) -> None:
    console = Console(record=True, width=120)
    RunProgress(without_server_data, RunConfig.parse(rounds=3), console).update()
    console.print(closing(without_server_data, 1.0))
    said = console.export_text()
    assert "every client has data of its own, of 10 classes" in said and "(mean over clients)" in said
    assert (without_server_data / "curves.png").stat().st_size > 0
    shutil.copytree(without_server_data, tmp_path / "run")
    page = write_report([tmp_path / "run"], tmp_path / "report").read_text(encoding="utf-8")
    assert "mean over clients" in page and "its data lies at the clients, and the server has none to show" in page


def test_server_data_is_tested_on_and_changes_nothing_else(
    places: Path, without_server_data: Path, tmp_path: Path
) -> None:
    shutil.copytree(places, tmp_path / "places")
    shutil.copy(places / "client-1.npz", tmp_path / "places" / "server.npz")
    summary = run(tmp_path / "run", tmp_path / "places")
    assert summary["accuracy-of"] == "test data"
    known = [label for label, share in enumerate(summary["last-round"]["class_accuracy"]) if share is not None]
    assert known == CLASSES[1]
    ours, theirs = bits(tmp_path / "run"), bits(without_server_data)
    assert ours == theirs


def test_a_resumed_run_ends_as_one_that_was_not_stopped(
    places: Path, without_server_data: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    run(folder, places, rounds=2)
    run(folder, places, rounds=3, resume=str(folder))
    assert bits(folder) == bits(without_server_data)


def test_node_configs_lead_to_the_same_data(
    places: Path, without_server_data: Path, tmp_path: Path, monkeypatch
) -> None:
    """As deployed: no data.path at all."""
    made = InProcessGrid.__init__

    def with_places(grid: InProcessGrid, *arguments: Any) -> None:
        made(grid, *arguments)
        for context in grid._contexts.values():
            context.node_config["data-path"] = str(places / f"client-{context.node_config['partition-id']}.npz")

    monkeypatch.setattr(InProcessGrid, "__init__", with_places)
    run(tmp_path / "run", "")
    assert bits(tmp_path / "run") == bits(without_server_data)


def test_a_client_without_its_data_is_named_and_the_others_go_on(
    places: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.copytree(places, tmp_path / "places")
    (tmp_path / "places" / "client-2.npz").unlink()
    np.savez(tmp_path / "places" / "client-1.npz", images=np.zeros((3, 8, 8), np.uint8), labels=np.array([3, 10, 4]))
    summary = run(tmp_path / "run", tmp_path / "places", rounds=1)
    rounds = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert len(rounds[0]["set_aside"]) == 2 and [c["partition-id"] for c in summary["clients"]] == [0, 3]
    label, missing = sorted(rounds[0]["set_aside"])
    assert "client 1" in label and "client-1.npz: a label is 10, but data.classes declares 10 classes" in label
    assert "client 2" in missing and "holds neither client-2.npz nor a folder client-2" in missing


def test_texts_of_one_class_each(tmp_path: Path) -> None:
    """A single class a client, hashed to the same token ids everywhere; the server needs no vocabulary of theirs."""
    for client, label in enumerate(("ham", "spam", "spam", "ham")):
        rows = "".join(f'{label},"{label} number {number}"\n' for number in range(10))
        (tmp_path / f"client-{client}.csv").write_text(f"label,text\n{rows}")
    settings = {"data.name": "text-csv", "data.classes": "ham, spam", "data.input-shape": "", "model.name": "fasttext"}
    summary = run(tmp_path / "run", tmp_path, **settings)
    assert summary["clients-tested"]["clients"] == 4
