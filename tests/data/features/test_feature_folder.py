"""The data set `feature-folder`: samples that are features of picture files."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from noise_pictures import features

from fedhpro_flwr.data import DataSource, load


def folder_source(tree: Path, weights: Path, **options: float) -> DataSource:
    return DataSource(name="feature-folder", path=str(tree), weights=str(weights), **options)  # type: ignore[arg-type]


def test_feature_folder_with_a_test_part_split_off(tree: Path, weights: Path, loads: list[Path]) -> None:
    loaded = load(folder_source(tree, weights, test_share=0.25))
    assert loaded.class_names == ("bay", "field")
    assert (len(loaded.train), len(loaded.test), loaded.input_shape) == (6, 2, (48,))
    assert (loaded.train.inputs.dtype, loaded.mean, loaded.std) == (torch.float32, (0.0,), (1.0,))
    assert loaded.test.labels.tolist() == [0, 1]
    rows = features(tree, weights)
    labels = torch.tensor([0] * 4 + [1] * 4)
    for split in (loaded.train, loaded.test):
        for z, label in zip(split.inputs, split.labels, strict=True):
            assert label == labels[(rows == z).all(1)].tolist()[0]  # samples keep their labels
    load(folder_source(tree, weights, test_share=0.5, split_seed=3))
    assert len(loads) == 1  # another split needs no other features


def test_feature_folder_with_train_and_test_folders(tree: Path, weights: Path, loads: list[Path]) -> None:
    for file in sorted(tree.rglob("*.png")):
        part = "test" if file.stem == "0" else "train"
        (tree / part / file.parent.name).mkdir(parents=True, exist_ok=True)
        file.rename(tree / part / file.parent.name / file.name)
    for name in ("bay", "field"):
        (tree / name).rmdir()
    loaded = load(folder_source(tree, weights))
    assert loaded.train.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert torch.equal(loaded.test.inputs, features(tree, weights)[[0, 1]])


def test_feature_folder_refuses_before_it_reads(tree: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"data\.name = 'feature-folder' needs data\.weights"):
        load(DataSource(name="feature-folder", path=str(tree)))
    with pytest.raises(FileNotFoundError, match=r"data\.weights = .*w\.pth' does not exist"):
        load(folder_source(tree, tmp_path / "w.pth"))
