"""MNIST-M: the original folder and the subset's file, both small; refusals; the real subset where there is one."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fedhpro_flwr.data import DataSource, load
from fedhpro_flwr.data.mnist_m import SUBSET

REAL = Path(os.environ.get("FEDHPRO_DATA_DIR") or Path(__file__).parents[2] / ".." / "shared" / "data")


def images(count: int, seed: int, side: int = 32) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, side, side, 3), dtype=np.uint8)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "mnist_m"
    for part, labels in (("train", [5, 0, 4]), ("test", [7, 2])):
        (place / f"mnist_m_{part}").mkdir(parents=True)
        lines = [f"{i:08d}.png {label}\n" for i, label in enumerate(labels)]
        (place / f"mnist_m_{part}_labels.txt").write_text("".join(lines))
        for i, image in enumerate(images(len(labels), seed=len(labels))):
            Image.fromarray(image).save(place / f"mnist_m_{part}" / f"{i:08d}.png")
    return place


def test_original_folder_is_read_in_the_order_of_its_labels(folder: Path) -> None:
    loaded = load(DataSource(name="mnist-m", root=str(folder.parent)))
    assert (loaded.train.labels.tolist(), loaded.test.labels.tolist()) == ([5, 0, 4], [7, 2])
    np.testing.assert_array_equal(loaded.train.inputs, images(3, seed=3).transpose(0, 3, 1, 2))
    np.testing.assert_array_equal(loaded.test.inputs, images(2, seed=2).transpose(0, 3, 1, 2))
    (folder / "mnist_m_train_labels.txt").write_text("00000002.png 4\n00000000.png 5\n")
    loaded = load(DataSource(name="mnist-m", root=str(folder.parent)))
    assert loaded.train.labels.tolist() == [4, 5]
    np.testing.assert_array_equal(loaded.train.inputs, images(3, seed=3)[[2, 0]].transpose(0, 3, 1, 2))


@pytest.mark.parametrize("content", ["00000000.png 5\n00000001.png\n", "00000000.png 5\n00000001.png 10\n"])
def test_unusable_label_is_refused(content: str, folder: Path) -> None:
    (folder / "mnist_m_train_labels.txt").write_text(content)
    with pytest.raises(ValueError, match=r"mnist_m_train_labels\.txt, line 2: .* is not a picture and its digit"):
        load(DataSource(name="mnist-m", root=str(folder.parent)))


def test_incomplete_folder_is_refused(folder: Path) -> None:
    source = DataSource(name="mnist-m", root=str(folder.parent))
    (folder / "mnist_m_test_labels.txt").write_text("")
    with pytest.raises(ValueError, match=r"mnist_m_test_labels\.txt is empty"):
        load(source)
    (folder / "mnist_m_test_labels.txt").unlink()
    with pytest.raises(FileNotFoundError, match=r"mnist_m_test_labels\.txt is missing; unpack"):
        load(source)
    (folder / "mnist_m_train" / "00000001.png").unlink()
    with pytest.raises(ValueError, match=r"mnist_m_train/00000001\.png is damaged"):
        load(source)


def test_pictures_of_another_size_are_refused(folder: Path) -> None:
    for file in (folder / "mnist_m_train").iterdir():
        Image.fromarray(images(1, seed=0, side=28)[0]).save(file)
    with pytest.raises(ValueError, match=r"the pictures need 32x32 pixels, they have \[28, 28\]"):
        load(DataSource(name="mnist-m", root=str(folder.parent)))


def test_subset_is_read_where_there_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "MNISTM").mkdir()
    file = tmp_path / "MNISTM" / SUBSET
    np.savez(file, x_train=images(4, 0), y_train=np.arange(4), x_test=images(2, 1), y_test=np.arange(2))
    loaded = load(DataSource(name="mnist-m", root=str(tmp_path)))
    np.testing.assert_array_equal(loaded.train.inputs, images(4, 0).transpose(0, 3, 1, 2))
    assert loaded.num_classes == 10 and loaded.test.labels.tolist() == [0, 1]
    np.savez(file, x_train=images(4, 0), y_train=np.arange(4))
    with pytest.raises(ValueError, match=r"has no test part"):
        load(DataSource(name="mnist-m", root=str(tmp_path)))


def test_missing_mnist_m_says_what_to_put_where(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=rf"put {SUBSET} into .*MNISTM .*unpack mnist_m\.tar\.gz to .*mnist_m"):
        load(DataSource(name="mnist-m", root=str(tmp_path)))


@pytest.mark.skipif(not (REAL / "MNISTM" / SUBSET).is_file(), reason=f"no MNIST-M in {REAL}")
def test_real_subset() -> None:
    loaded = load(DataSource(name="mnist-m", root=str(REAL)))
    assert (len(loaded.train), len(loaded.test), loaded.input_shape) == (10_000, 2000, (3, 32, 32))
    assert loaded.train.labels[:5].tolist() == [5, 0, 4, 1, 9]  # MNIST's order
    assert loaded.train.inputs[0, :, 0, 0].tolist() == [70, 81, 64]
    scaled = loaded.train.inputs.double() / 255
    assert tuple(round(x, 4) for x in scaled.mean((0, 2, 3)).tolist()) == loaded.mean
    assert tuple(round(x, 4) for x in scaled.std((0, 2, 3)).tolist()) == loaded.std
