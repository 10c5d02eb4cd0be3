"""The same samples, told in other ways: pictures or arrays, divided by the run or lying at the clients, changed since
the last run of the process. What they hold decides the bits of a run, and nothing else does."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file
from sklearn.datasets import load_digits
from three_rounds import SMALL, run

from fedhpro_flwr.data.partition import PartitionPlan, partition, split_test
from fedhpro_flwr.runs.run_folder import read_rounds

CLASSES = ("ant", "bee", "cat")
TRAINING, TEST = np.arange(0, 150), np.arange(150, 300)  # of the digits 0, 1 and 2


@pytest.fixture(scope="module")
def samples() -> tuple[np.ndarray, np.ndarray]:
    """Images [N, 8, 8] and labels [N] of three classes; training and test part each in the order of its classes, as a
    folder of classes is read."""
    pixels, labels = load_digits(return_X_y=True)
    kept = np.flatnonzero(labels < len(CLASSES))[:300]
    kept = np.concatenate([part[np.argsort(labels[part], kind="stable")] for part in (kept[TRAINING], kept[TEST])])
    return np.rint(pixels[kept] * 255 / 16).astype(np.uint8).reshape(-1, 8, 8), labels[kept]


def arrays(
    path: Path, images: np.ndarray, labels: np.ndarray, train: np.ndarray = TRAINING, test: np.ndarray = TEST
) -> Path:
    """An .npz of a training and a test part."""
    np.savez(path, x_train=images[train], y_train=labels[train], x_test=images[test], y_test=labels[test])
    return path


def played(folder: Path, **settings: object) -> list[object]:
    """What a run with these settings found: its tensors, and its rounds as far as they follow from the samples."""
    own = SMALL | {"data.train-limit": 0, "run-folder": folder, "model.name": "cnn", "partition.num-partitions": 3}
    assert run("digits-small", **own | settings) == 0
    files = sorted(folder.glob("*.safetensors"))
    return [
        [[(name, tensor.tobytes()) for name, tensor in load_file(file).items()] for file in files],
        bare(read_rounds(folder)),
    ]


def bare(value: object) -> object:
    """Without seconds, bytes (the settings with their paths are among them), and class groups (nobody knows the counts
    of classes at clients with data of their own)."""
    if isinstance(value, dict):
        told = ("head", "medium", "tail")
        return {
            key: bare(inner)
            for key, inner in value.items()
            if key not in told and "seconds" not in key and "bytes" not in key
        }
    return [bare(inner) for inner in value] if isinstance(value, list) else value


def test_pictures_a_zip_of_them_and_arrays_give_the_same_run(samples, tmp_path):
    images, labels = samples
    for sample, (image, label) in enumerate(zip(images, labels, strict=True)):
        place = tmp_path / "pictures" / ("train" if sample in TRAINING else "test") / CLASSES[label]
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(place / f"{sample:03d}.png")
    shutil.make_archive(str(tmp_path / "pictures"), "zip", tmp_path, "pictures")
    one_channel = arrays(tmp_path / "one.npz", images[:, None], labels)
    fractions = arrays(tmp_path / "fractions.npz", images.astype(np.float32) / 255, labels)
    npz = {"data.name": "npz", "data.classes": ", ".join(CLASSES)}
    first = played(tmp_path / "first", **npz, **{"data.path": arrays(tmp_path / "images.npz", images, labels)})
    for name, settings in (
        ("folder", {"data.name": "image-folder", "data.path": tmp_path / "pictures"}),
        ("zip", {"data.name": "image-folder", "data.path": tmp_path / "pictures.zip"}),
        ("one-channel", npz | {"data.path": one_channel}),
        ("fractions", npz | {"data.path": fractions}),
    ):
        assert played(tmp_path / name, **settings) == first, name


@pytest.mark.parametrize(
    "settings",
    [{}, {"preset": "tuned"}, {"preset": "reference"}, {"method.name": "fedproto", "model.share": "head"}],
    ids=lambda settings: "-".join(settings.values()) or "paper",
)
def test_a_run_whose_clients_hold_what_another_run_deals_them_is_that_run(settings, samples, tmp_path):
    images, labels = samples
    train_labels, test_labels = labels[TRAINING], labels[TEST]
    division = partition(train_labels, 3, PartitionPlan(scheme="dirichlet", num_partitions=3, alpha=0.5), seed=4)
    tested = split_test(test_labels, division.class_counts(train_labels, 3), seed=4)
    places = tmp_path / "places"
    places.mkdir()
    for client in range(3):
        train, test = TRAINING[division.indices[client]], TEST[tested[client]]
        arrays(places / f"client-{client}.npz", images, labels, train, test)
    np.savez(places / "server.npz", images=images[TEST], labels=test_labels)
    both = settings | {"data.name": "npz", "data.classes": 3, "data.input-shape": "1x8x8", "seed": 4}
    whole = {"data.path": arrays(tmp_path / "whole.npz", images, labels), "partition.scheme": "dirichlet"}
    dealt = played(tmp_path / "dealt", **both, **whole, **{"partition.alpha": 0.5})
    held = played(tmp_path / "held", **both, **{"data.path": places, "partition.scheme": "nodes"})
    assert held == dealt


@pytest.mark.parametrize("scheme", ["iid", "nodes"])
def test_files_that_changed_since_the_last_run_of_the_process_are_read_again(scheme, samples, tmp_path):
    images, labels = samples
    places = tmp_path / "places"
    places.mkdir()
    files = [places / f"client-{client}.npz" for client in range(3)] if scheme == "nodes" else [tmp_path / "whole.npz"]
    own = {"data.name": "npz", "data.classes": 3, "data.input-shape": "1x8x8", "partition.scheme": scheme}
    own |= {"data.path": places if scheme == "nodes" else files[0]}
    outcomes = []
    for turn in range(3):
        for file in files:
            arrays(file, images if turn != 1 else 255 - images, labels)
        outcomes.append(played(tmp_path / f"{turn}", **own))
    before, changed, after = outcomes
    assert changed != before
    assert after == before
