"""SVHN and its part: small files in the original layout, refusals, and the real part where there is one."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.io import savemat

from fedhpro_flwr.data import DataSource, digit_mat, load
from fedhpro_flwr.data.digit_mat import read_digit_mat
from fedhpro_flwr.data.svhn import PART_FILES

REAL = Path(os.environ.get("FEDHPRO_DATA_DIR") or Path(__file__).parents[2] / ".." / "shared" / "data")


def pixels(count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (32, 32, 3, count), dtype=np.uint8)


@pytest.mark.parametrize("folder", ["SVHN", "."])
def test_svhn_is_read_from_its_folder_or_the_data_folder(folder: str, tmp_path: Path) -> None:
    (tmp_path / folder).mkdir(exist_ok=True)
    x_train, x_test = pixels(5, 0), pixels(2, 1)
    savemat(tmp_path / folder / "train_32x32.mat", {"X": x_train, "y": np.array([[1], [10], [9], [10], [2]])})
    savemat(tmp_path / folder / "test_32x32.mat", {"X": x_test, "y": np.array([[10], [3]])}, do_compression=True)
    loaded = load(DataSource(name="svhn", root=str(tmp_path)))
    np.testing.assert_array_equal(loaded.train.inputs, x_train.transpose(3, 2, 0, 1))
    np.testing.assert_array_equal(loaded.test.inputs, x_test.transpose(3, 2, 0, 1))
    assert loaded.train.inputs.is_contiguous() and loaded.train.labels.dtype == torch.int64
    assert (loaded.train.labels.tolist(), loaded.test.labels.tolist()) == ([1, 0, 9, 0, 2], [0, 3])


def test_images_are_turned_chunk_by_chunk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(digit_mat, "CHUNK", 3)
    x = pixels(7, 2)
    savemat(tmp_path / "a.mat", {"X": x, "y": np.arange(7)[:, None]})
    np.testing.assert_array_equal(read_digit_mat(tmp_path / "a.mat").inputs, x.transpose(3, 2, 0, 1))


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"X": pixels(2, 0)}, "lacks X or y"),
        ({"X": pixels(2, 0), "y": np.ones((3, 1))}, r"needs X uint8 .*, got uint8 \[32, 32, 3, 2\] and \[3, 1\]"),
        ({"X": pixels(2, 0)[:28], "y": np.ones((2, 1))}, r"got uint8 \[28, 32, 3, 2\]"),
        ({"X": pixels(2, 0) / 255, "y": np.ones((2, 1))}, "got float64"),
        ({"X": pixels(2, 0), "y": np.array([[1], [11]])}, r"needs one label in 0\.\.10"),
        ({"X": pixels(2, 0), "y": np.array([[-1], [1]])}, r"needs one label in 0\.\.10"),
        ({"X": pixels(0, 0), "y": np.ones((0, 1))}, r"needs one label in 0\.\.10"),
    ],
)
def test_unusable_arrays_are_refused(arrays: dict[str, np.ndarray], message: str, tmp_path: Path) -> None:
    savemat(tmp_path / "a.mat", arrays)
    with pytest.raises(ValueError, match=rf"a\.mat .*{message}"):
        read_digit_mat(tmp_path / "a.mat")


@pytest.mark.parametrize("kept", [0, 100, 1500, -100])
def test_damaged_file_is_named(kept: int, tmp_path: Path) -> None:
    file = tmp_path / "a.mat"
    savemat(file, {"X": pixels(2, 0), "y": np.ones((2, 1))}, do_compression=True)
    file.write_bytes(file.read_bytes()[:kept])
    with pytest.raises(ValueError, match=r"a\.mat is damaged, truncated or no MATLAB file .*; put the original"):
        read_digit_mat(file)
    for name in ("train_32x32.mat", "test_32x32.mat"):
        (tmp_path / name).write_bytes(file.read_bytes())
    with pytest.raises(ValueError, match=r"train_32x32\.mat is damaged.*; delete it and set data\.download = true$"):
        load(DataSource(name="svhn", root=str(tmp_path)))


def test_missing_svhn_says_what_to_put_where(tmp_path: Path) -> None:
    with pytest.raises(
        FileNotFoundError, match=r"put train_32x32\.mat into .*SVHN \(data\.download = true .*'svhn-part' is"
    ):
        load(DataSource(name="svhn", root=str(tmp_path)))
    with pytest.raises(FileNotFoundError, match=rf"put {PART_FILES[0]} into .*SVHN .*'svhn' is the whole set"):
        load(DataSource(name="svhn-part", root=str(tmp_path)))


def test_part_takes_its_test_images_from_the_second_file(tmp_path: Path) -> None:
    for name, count in zip(PART_FILES, (4, 3), strict=True):
        images = pixels(count, count).transpose(3, 0, 1, 2)
        np.savez(tmp_path / name, images=images, labels=np.arange(count), source=np.zeros((count, 2), np.int64))
    loaded = load(DataSource(name="svhn-part", root=str(tmp_path)))
    assert (loaded.train.labels.tolist(), loaded.test.labels.tolist()) == ([0, 1, 2, 3], [0, 1, 2])
    np.testing.assert_array_equal(loaded.test.inputs, pixels(3, 3).transpose(3, 2, 0, 1))


@pytest.mark.skipif(not (REAL / "SVHN" / PART_FILES[0]).is_file(), reason=f"no part of SVHN in {REAL}")
def test_real_part() -> None:
    loaded = load(DataSource(name="svhn-part", root=str(REAL)))
    assert (len(loaded.train), len(loaded.test), loaded.input_shape) == (1083, 243, (3, 32, 32))
    assert np.bincount(loaded.train.labels).tolist() == [66, 227, 141, 134, 110, 112, 78, 70, 78, 67]
    assert loaded.train.labels[:4].tolist() == [1, 9, 2, 3]
    assert loaded.train.inputs[0, :, 0, 0].tolist() == [33, 30, 38]
