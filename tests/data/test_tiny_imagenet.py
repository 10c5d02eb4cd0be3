"""Tiny ImageNet: a made-up folder in the distributed layout, and refusals."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
import torch
from PIL import Image

from fedhpro_flwr.data import DataSource, load
from fedhpro_flwr.data.tiny_imagenet import MEAN, STD

WORDS = {
    "n02124075": "Egyptian cat",
    "n01443537": "goldfish, Carassius auratus",
    "n00001740": "entity",  # words.txt lists more than the 200 classes
}


def jpeg(value: int, mode: str = "RGB") -> bytes:
    buffer = io.BytesIO()
    colour = (value, value, 255 - value) if mode == "RGB" else value
    Image.new(mode, (64, 64), colour).save(buffer, "JPEG", quality=100)
    return buffer.getvalue()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two classes, three training pictures each, and three pictures of val."""
    base = tmp_path / "tiny-imagenet-200"
    for c, wnid in enumerate(("n02124075", "n01443537")):
        images = base / "train" / wnid / "images"
        images.mkdir(parents=True)
        for i in range(3):
            (images / f"{wnid}_{i}.JPEG").write_bytes(jpeg(100 * c + 10 * i, "L"))
        (base / "train" / wnid / f"{wnid}_boxes.txt").write_text("0 0 62 62\n")
    (base / "wnids.txt").write_text("n02124075\nn01443537\n")
    (base / "words.txt").write_text("".join(f"{wnid}\t{words}\n" for wnid, words in WORDS.items()))
    (base / "val" / "images").mkdir(parents=True)
    lines = []
    for i, wnid in enumerate(("n02124075", "n01443537", "n02124075")):
        (base / "val" / "images" / f"val_{i}.JPEG").write_bytes(jpeg(40 * i))
        lines.append(f"val_{i}.JPEG\t{wnid}\t0\t32\t44\t62\n")
    (base / "val" / "val_annotations.txt").write_text("".join(lines))
    return base


def test_classes_by_wordnet_id_and_val_as_test(folder: Path) -> None:
    loaded = load(DataSource(name="tiny-imagenet", root=str(folder.parent)))
    assert loaded.class_names == ("goldfish", "Egyptian cat")
    assert (loaded.input_shape, loaded.train.inputs.dtype) == ((3, 64, 64), torch.uint8)  # grey ones are colour too
    assert loaded.train.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert loaded.train.inputs[:, 1, 30, 30].tolist() == [100, 110, 120, 0, 10, 20]
    assert loaded.test.labels.tolist() == [1, 0, 1]
    for i, picture in enumerate(loaded.test.inputs[:, :, 30, 30].tolist()):
        assert picture == pytest.approx([40 * i, 40 * i, 255 - 40 * i], abs=2)  # JPEG rounds colours
    assert (loaded.mean, loaded.std, loaded.domain_names) == (MEAN, STD, ())


def test_resized_and_from_a_path(folder: Path) -> None:
    loaded = load(DataSource(name="tiny-imagenet", path=str(folder), image_size=16))
    assert loaded.input_shape == (3, 16, 16)
    assert loaded.train.inputs[4].unique().tolist() == [10]


def test_missing_files(folder: Path) -> None:
    source = DataSource(name="tiny-imagenet", root=str(folder.parent))
    with pytest.raises(FileNotFoundError, match=r"put the folder tiny-imagenet-200 with wnids\.txt, .*into"):
        load(DataSource(name="tiny-imagenet", root=str(folder)))
    for file in (folder / "words.txt", folder / "val" / "val_annotations.txt"):
        content = file.read_bytes()
        file.unlink()
        with pytest.raises(FileNotFoundError, match=rf"{file.name} is missing; unpack the archive again"):
            load(source)
        file.write_bytes(content)
    (folder / "val" / "images" / "val_1.JPEG").unlink()
    with pytest.raises(ValueError, match=r"lists val_1\.JPEG, but val/images/val_1\.JPEG is missing"):
        load(source)


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("wnids.txt", b"n02124075\nn01443537\nn09999999\n", r"train/n09999999/images holds no \.JPEG pictures"),
        ("wnids.txt", b"n02124075\n", r"val_1\.JPEG is of class n01443537, which wnids\.txt does not list"),
        ("wnids.txt", b"\n", r"wnids\.txt is damaged: it needs lines of 1 or more entries"),
        ("words.txt", b"n02124075 Egyptian cat\n", r"words\.txt is damaged: it needs lines of 2 or more entries"),
        ("val/val_annotations.txt", b"\xff\xfe", r"val_annotations\.txt is damaged"),
        (
            "train/n01443537/images/n01443537_1.JPEG",
            b"\xff\xd8",
            r"n01443537_1\.JPEG is damaged, truncated or no picture",
        ),
    ],
)
def test_refusals(folder: Path, file: str, content: bytes, message: str) -> None:
    (folder / file).write_bytes(content)
    with pytest.raises(ValueError, match=message) as caught:
        load(DataSource(name="tiny-imagenet", root=str(folder.parent)))
    assert "\n" not in str(caught.value)
