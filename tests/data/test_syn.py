"""SYN: small files in the original layout, and what is said where there are none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from fedhpro_flwr.data import DataSource, load


def test_syn_labels_are_the_digits(tmp_path: Path) -> None:
    (tmp_path / "SYN").mkdir()
    x = np.random.default_rng(0).integers(0, 256, (32, 32, 3, 10), dtype=np.uint8)
    savemat(tmp_path / "SYN" / "synth_train_32x32.mat", {"X": x, "y": np.arange(10, dtype=np.uint8)[:, None]})
    savemat(tmp_path / "SYN" / "synth_test_32x32.mat", {"X": x[..., 7:8], "y": np.array([[7.0]])})
    loaded = load(DataSource(name="syn", root=str(tmp_path)))
    assert (loaded.train.labels.tolist(), loaded.test.labels.tolist()) == (list(range(10)), [7])
    np.testing.assert_array_equal(loaded.train.inputs[7], x[..., 7].transpose(2, 0, 1))
    assert loaded.input_shape == (3, 32, 32) and loaded.class_names == tuple("0123456789")


def test_missing_syn_names_the_file_and_the_way_out(tmp_path: Path) -> None:
    with pytest.raises(
        FileNotFoundError,
        match=r"put synth_train_32x32\.mat into .*SYN \(or pictures into .*syn.train.<digit> and .*'syn-rendered'",
    ):
        load(DataSource(name="syn", root=str(tmp_path), download=True))


def make_pictures(root: Path, side: int = 32) -> None:
    """Three pictures of each digit to train, one to test; the red is 20 * digit + number, the picture is not square."""
    for part, count in (("train", 3), ("val", 1)):
        for digit in range(10):
            folder = root / "syn" / part / str(digit)
            folder.mkdir(parents=True)
            for i in range(count):
                Image.new("RGB", (side, side), (20 * digit + i, 0, 255)).save(folder / f"{i}.png")


@pytest.mark.parametrize("side", [32, 40])
def test_folders_of_pictures_are_the_second_choice(side: int, tmp_path: Path) -> None:
    make_pictures(tmp_path, side)
    loaded = load(DataSource(name="syn", root=str(tmp_path)))
    assert (loaded.name, loaded.input_shape, loaded.class_names) == ("syn", (3, 32, 32), tuple("0123456789"))
    for split, count in ((loaded.train, 3), (loaded.test, 1)):
        assert np.bincount(split.labels).tolist() == [count] * 10
        red = split.inputs[:, 0].flatten(1).unique(dim=1)  # [N, 1]
        assert red[:, 0].tolist() == [20 * digit + i for digit in range(10) for i in range(count)]
    x = np.zeros((32, 32, 3, 2), np.uint8)
    savemat(tmp_path / "synth_train_32x32.mat", {"X": x, "y": np.array([[4], [9]])})
    assert len(load(DataSource(name="syn", root=str(tmp_path))).train) == 30  # one of two files is no set
    savemat(tmp_path / "synth_test_32x32.mat", {"X": x, "y": np.array([[4], [9]])})
    assert load(DataSource(name="syn", root=str(tmp_path))).train.labels.tolist() == [4, 9]


def test_folders_that_are_not_those_of_the_digits(tmp_path: Path) -> None:
    make_pictures(tmp_path)
    (tmp_path / "syn" / "train" / "9").rename(tmp_path / "syn" / "train" / "nine")
    with pytest.raises(ValueError, match=r"syn.train has the class folders 0, 1, .*, 8, nine; it needs 0 to 9$"):
        load(DataSource(name="syn", root=str(tmp_path)))


def test_a_damaged_file_says_what_to_put_there(tmp_path: Path) -> None:
    for name in ("synth_train_32x32.mat", "synth_test_32x32.mat"):
        (tmp_path / name).write_bytes(b"damaged")
    with pytest.raises(ValueError, match=r"synth_train_32x32\.mat is damaged.*; put the original file there$"):
        load(DataSource(name="syn", root=str(tmp_path)))
