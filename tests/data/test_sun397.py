"""SUN397 in small trees of its layout: nested classes, the standard split, images and features."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from PIL import Image

from fedhpro_flwr.data import DataSource, load, sun397
from fedhpro_flwr.data.kept_tensor import FOLDER

CLASSES = ("a/abbey", "a/apartment_building/outdoor", "z/zoo")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Three classes of four photographs; the red of a photograph tells class and number."""
    for c, place in enumerate(CLASSES):
        folder = tmp_path / "SUN397" / place
        folder.mkdir(parents=True)
        for i in range(4):
            Image.new("RGB", (40 + i, 30), (50 * c + 10 * i, 128, 0)).save(folder / f"sun_{c}{i}.jpg", quality=100)
    (tmp_path / "SUN397" / "ClassName.txt").write_text("".join(f"/{place}\n" for place in CLASSES))
    return tmp_path


def source(root: Path, **options: object) -> DataSource:
    return DataSource(name="sun397", root=str(root), **options)  # type: ignore[arg-type]


def write_lists(folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    for name, numbers in (("Training_01.txt", (3, 1)), ("Testing_01.txt", (0,))):
        lines = [f"/{place}/sun_{c}{i}.jpg\n" for c, place in enumerate(CLASSES) for i in numbers]
        (folder / name).write_text("".join(lines))


def test_images_and_a_test_part_of_each_class(root: Path) -> None:
    loaded = load(source(root, test_share=0.25))
    assert loaded.class_names == ("abbey", "apartment_building/outdoor", "zoo")
    assert (len(loaded.train), len(loaded.test), loaded.input_shape) == (9, 3, (3, 64, 64))
    assert loaded.train.inputs.dtype == torch.uint8 and loaded.mean == (0.485, 0.456, 0.406)
    for split in (loaded.train, loaded.test):
        red = split.inputs[:, 0, 0, 0].float()
        assert torch.equal((red / 50 + 0.06).long(), split.labels)  # photographs keep their labels
    assert sorted(loaded.test.labels.tolist()) == [0, 1, 2]


def test_images_are_decoded_once_for_a_size(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = load(source(root, image_size=16))
    with monkeypatch.context() as patched:
        patched.setattr(sun397, "decode", None)
        again = load(source(root, image_size=16))
    assert torch.equal(first.train.inputs, again.train.inputs) and first.input_shape == (3, 16, 16)
    assert load(source(root, image_size=8)).input_shape == (3, 8, 8)
    assert len(list((root / FOLDER).iterdir())) == 2


def test_a_photograph_that_changed_is_decoded_anew(root: Path, tmp_path: Path) -> None:
    first = load(source(root, image_size=16))
    file = root / "SUN397" / "a" / "abbey" / "sun_00.jpg"
    size = file.stat().st_size
    for value in range(1, 200):  # until a photograph has as many bytes
        Image.new("RGB", (40, 30), (10, 128 + value % 100, value)).save(file, quality=100)
        if file.stat().st_size == size:
            break
    assert file.stat().st_size == size
    os.utime(file, ns=(7, 7))
    again = load(source(root, image_size=16))
    both = [torch.cat((loaded.train.inputs, loaded.test.inputs)) for loaded in (first, again)]
    assert int((both[0] != both[1]).flatten(1).any(1).sum()) == 1


def test_an_image_size_beside_weights_is_refused(root: Path, resnet18_file: Path) -> None:
    with pytest.raises(
        ValueError, match=r"data\.image-size = 16: data set 'sun397' does not use it beside data\.weights"
    ):
        load(source(root, weights=str(resnet18_file), image_size=16))


@pytest.mark.parametrize("place", [".", "Partitions"])
def test_the_standard_split_in_the_order_of_its_files(root: Path, place: str) -> None:
    write_lists(root / "SUN397" / place)
    loaded = load(source(root, image_size=4))
    assert loaded.train.labels.tolist() == [0, 0, 1, 1, 2, 2] and loaded.test.labels.tolist() == [0, 1, 2]
    red = loaded.train.inputs[:, 0, 0, 0].int()
    assert bool(((red - torch.tensor([30, 10, 80, 60, 130, 110])).abs() <= 2).all())  # to JPEG's rounding


def test_features_of_a_frozen_encoder(root: Path, resnet18_file: Path) -> None:
    write_lists(root / "SUN397")
    loaded = load(source(root, weights=str(resnet18_file)))
    assert (loaded.train.inputs.shape, loaded.test.inputs.shape) == ((6, 512), (3, 512))
    assert (loaded.train.inputs.dtype, loaded.mean, loaded.std) == (torch.float32, (0.0,), (1.0,))
    assert [file.suffix for file in (root / FOLDER).iterdir()] == [".safetensors"]


def test_missing_folders_and_files_say_what_to_do(root: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(
        FileNotFoundError, match=r"unpack SUN397\.tar\.gz \(37 GB\) into .*empty, .*ClassName\.txt exist"
    ):
        load(source(empty))
    with pytest.raises(FileNotFoundError, match=r"data\.weights = 'w\.pth' does not exist"):
        load(source(empty, weights="w.pth"))
    folder = root / "SUN397"
    for file in (folder / "z" / "zoo").iterdir():
        file.unlink()
    with pytest.raises(ValueError, match=r"the class folder z/zoo holds no \.jpg pictures"):
        load(source(root))
    (folder / "z" / "zoo").rmdir()
    with pytest.raises(FileNotFoundError, match=r"SUN397 has no folder z/zoo, which ClassName\.txt names"):
        load(source(root))
    (folder / "ClassName.txt").write_text("abbey\n")
    with pytest.raises(ValueError, match=r"ClassName\.txt: 'abbey' is no class, lines are like /a/abbey"):
        load(source(root))


def test_lists_of_the_split_that_are_refused(root: Path) -> None:
    folder = root / "SUN397"
    write_lists(folder)
    training, testing = folder / "Training_01.txt", folder / "Testing_01.txt"
    whole = testing.read_text()
    for content, error, message in (
        (whole + "/b/bank/sun_1.jpg\n", ValueError, r"Testing_01\.txt, line 4: /b/bank/sun_1\.jpg lies in none"),
        (whole + "/a/abbey/sun_99.jpg\n", FileNotFoundError, r"the picture a/abbey/sun_99\.jpg is missing"),
        (training.read_text(), ValueError, r"/a/abbey/sun_01\.jpg is in both Training_01\.txt and Testing_01\.txt"),
        ("\n", ValueError, r"Testing_01\.txt lists no pictures"),
    ):
        testing.write_text(content)
        with pytest.raises(error, match=message):
            load(source(root))
    testing.unlink()
    with pytest.raises(FileNotFoundError, match=r"has one of Training_01\.txt and Testing_01\.txt; put the other"):
        load(source(root))


def test_download_that_fails_says_what_to_unpack_where(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from torchvision import datasets

    def refuse(root: str, download: bool) -> None:
        assert (root, download) == (str(tmp_path), True)
        raise RuntimeError("File not found or corrupted.")

    monkeypatch.setattr(datasets, "SUN397", refuse)
    with pytest.raises(FileNotFoundError, match=r"SUN397\.tar\.gz cannot be fetched \(File not found.* unpack it into"):
        load(source(tmp_path, download=True))
