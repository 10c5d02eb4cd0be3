"""HAM10000: made-up pictures and pixels in the distributed layouts, and the real file of 8x8 pixels."""

from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fedhpro_flwr.data import DataSource, load
from fedhpro_flwr.data.ham10000 import CLASSES, read_pixels
from fedhpro_flwr.data.hold_out import hold_out

REAL = Path(os.environ.get("FEDHPRO_DATA_DIR") or Path(__file__).parents[2] / ".." / "shared" / "data")
REAL_PIXELS = REAL / "medical" / "hmnist_8_8_L.csv"
HEADER = "lesion_id,image_id,dx,dx_type,age,sex,localization\n"


def jpeg(value: int, size: tuple[int, int] = (60, 45)) -> bytes:
    buffer = io.BytesIO()
    Image.new("L", size, value).save(buffer, "JPEG", quality=100)
    return buffer.getvalue()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Five lesions of nv and five of mel; lesion i has 1 + i % 3 pictures, whose value is 20 * i."""
    base = tmp_path / "HAM10000"
    lines = []
    for part in (1, 2):
        (base / f"HAM10000_images_part_{part}").mkdir(parents=True)
    for lesion in range(10):
        for _ in range(1 + lesion % 3):
            image = f"ISIC_{len(lines):07}"
            part = 1 + len(lines) % 2
            (base / f"HAM10000_images_part_{part}" / f"{image}.jpg").write_bytes(jpeg(20 * lesion))
            dx = "nv" if lesion < 5 else "mel"
            lines.append(f"HAM_{lesion:07},{image},{dx},histo,80.0,male,scalp\n")
    (base / "HAM10000_metadata.csv").write_text(HEADER + "".join(lines))
    return base


def write_pixels(file: Path, channels: int, side: int, rows: int = 14) -> np.ndarray:
    """Kaggle's form of random images; row i is of class i % 7. Returns the images [rows, side, side, channels]."""
    images = np.random.default_rng(0).integers(0, 256, (rows, side, side, channels), dtype=np.uint8)
    names = [f"pixel{i:04}" for i in range(channels * side**2)]
    lines = [",".join([*names, "label"])]
    lines += [",".join(map(str, [*image.reshape(-1), i % 7])) for i, image in enumerate(images)]
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("\n".join(lines) + "\n")
    return images


def test_pictures_are_split_by_lesion(folder: Path) -> None:
    source = DataSource(name="ham10000", root=str(folder.parent), test_share=0.4)
    loaded, again = load(source), load(source)
    assert (loaded.input_shape, loaded.class_names) == ((3, 32, 32), CLASSES)
    assert loaded.mean == (0.7630, 0.5456, 0.5700)
    lesions = [set((split.inputs[:, 0, 0, 0] // 20).tolist()) for split in (loaded.train, loaded.test)]
    assert not lesions[0] & lesions[1] and len(lesions[0] | lesions[1]) == 10
    assert [len([i for i in lesions[1] if i < 5]), len([i for i in lesions[1] if i >= 5])] == [2, 2]
    assert len(loaded.train) + len(loaded.test) == 19
    for split in (loaded.train, loaded.test):
        value = split.inputs[:, 0, 0, 0]
        assert torch.equal(split.labels, torch.where(value < 100, CLASSES.index("nv"), CLASSES.index("mel")))
    assert torch.equal(loaded.test.inputs, again.test.inputs)


@pytest.mark.parametrize("limit", [0, 10])
def test_no_lesion_is_in_both_parts_where_validation_samples_are_chosen(folder: Path, limit: int) -> None:
    source = DataSource(
        name="ham10000", root=str(folder.parent), test_share=0.2, validation_share=0.5, train_limit=limit
    )
    for seed in range(5):
        loaded = load(source.model_copy(update={"split_seed": seed}))
        plain = load(source.model_copy(update={"split_seed": seed, "validation_share": 0}))
        lesions = [set((part.inputs[:, 0, 0, 0] // 20).tolist()) for part in (loaded.train, loaded.test, plain.train)]
        assert not lesions[0] & lesions[1] and lesions[0] | lesions[1] == lesions[2]
        assert len(loaded.train) + len(loaded.test) == len(plain.train) == (limit or len(plain.train))
        if not limit:  # four lesions of each class are trained on
            assert [len([i for i in lesions[1] if i // 5 == c]) for c in (0, 1)] == [2, 2]


def test_a_split_by_lesion_is_of_lesions_in_every_class() -> None:
    rng = np.random.default_rng(0)
    lesion_ids = rng.integers(0, 100, 400)
    lesion_ids[:100] = np.arange(100)
    labels = lesion_ids % 4
    train, test = hold_out(labels, 0.2, 3, groups=lesion_ids)
    assert sorted([*train, *test]) == list(range(400))
    assert not set(lesion_ids[train]) & set(lesion_ids[test])
    assert np.bincount(np.unique(lesion_ids[test]) % 4).tolist() == [5, 5, 5, 5]


def test_pictures_of_another_size_and_path(folder: Path) -> None:
    loaded = load(DataSource(name="ham10000", path=str(folder), image_size=12))
    assert loaded.input_shape == (3, 12, 12)


def test_metadata_without_pictures_leave_the_pixels(folder: Path) -> None:
    write_pixels(folder / "hmnist_8_8_L.csv", 1, 8)
    source = DataSource(name="ham10000", root=str(folder.parent), test_share=0.5)
    assert load(source).input_shape == (3, 32, 32)
    for file in folder.glob("*/*.jpg"):
        file.unlink()
    assert load(source).input_shape == (1, 8, 8)
    (folder / "hmnist_8_8_L.csv").unlink()
    with pytest.raises(FileNotFoundError, match=r"put HAM10000_metadata\.csv and the folders HAM10000_images_part_1"):
        load(source)


def test_pictures_that_cannot_be_used(folder: Path) -> None:
    source = DataSource(name="ham10000", root=str(folder.parent))
    metadata = folder / "HAM10000_metadata.csv"
    content = metadata.read_text()
    for changed, message in (
        (content.replace(",mel,", ",nevus,", 1), r"metadata\.csv, line \d+: dx = nevus, allowed are akiec, bcc"),
        (content.replace("ISIC_0000000", "ISIC_9999999"), r"line 2: ISIC_9999999 is listed, but no folder in .* holds"),
        (content.replace("dx,", "diagnosis,"), "line 1: needs the columns lesion_id, image_id, dx, and rows below"),
        (HEADER, "needs the columns lesion_id, image_id, dx, and rows below"),
        ("", "needs the columns"),
        (HEADER + "HAM_0,ISIC_0000000\n", "line 2: 2 fields, the first line has 7"),
    ):
        metadata.write_text(changed)
        with pytest.raises(ValueError, match=message) as caught:
            load(source)
        assert "\n" not in str(caught.value)
    metadata.write_text(content)
    (folder / "HAM10000_images_part_2" / "ISIC_0000001.jpg").write_bytes(jpeg(0)[:200])
    with pytest.raises(ValueError, match=r"HAM10000_images_part_2/ISIC_0000001\.jpg is damaged"):
        load(source)
    metadata.unlink()
    with pytest.raises(
        FileNotFoundError, match=r"put HAM10000_metadata\.csv and the folders .* or one of hmnist_28_28"
    ):
        load(source)
    with pytest.raises(FileNotFoundError, match=r"put HAM10000_metadata\.csv into .*HAM10000"):
        load(DataSource(name="ham10000", path=str(folder)))


@pytest.mark.parametrize(
    ("name", "channels", "side"),
    [("hmnist_28_28_RGB.csv", 3, 28), ("hmnist_28_28_L.csv", 1, 28), ("hmnist_8_8_RGB.csv", 3, 8)],
)
def test_pixels_of_every_form(name: str, channels: int, side: int, tmp_path: Path) -> None:
    expected = write_pixels(tmp_path / "HAM10000" / name, channels, side)
    images, labels = read_pixels(tmp_path / "HAM10000" / name)
    assert (images.shape, images.dtype) == ((14, channels, side, side), np.uint8)
    assert images[5, channels - 1, 2, 7] == expected[5, 2, 7, channels - 1]
    assert labels.tolist() == [*range(7)] * 2
    loaded = load(DataSource(name="ham10000", root=str(tmp_path), test_share=0.5))
    assert (loaded.input_shape, len(loaded.mean)) == ((channels, side, side), channels)
    assert np.bincount(loaded.train.labels).tolist() == np.bincount(loaded.test.labels).tolist() == [1] * 7


def test_the_largest_file_of_pixels_is_taken(tmp_path: Path) -> None:
    write_pixels(tmp_path / "medical" / "hmnist_8_8_L.csv", 1, 8)
    assert load(DataSource(name="ham10000", root=str(tmp_path), test_share=0.5)).input_shape == (1, 8, 8)
    write_pixels(tmp_path / "hmnist_8_8_RGB.csv", 3, 8)
    assert load(DataSource(name="ham10000", root=str(tmp_path), test_share=0.5)).input_shape == (3, 8, 8)
    file = tmp_path / "medical" / "hmnist_8_8_L.csv"
    assert load(DataSource(name="ham10000", path=str(file), test_share=0.5)).input_shape == (1, 8, 8)


@pytest.mark.parametrize(
    ("header", "rows", "message"),
    [
        ("pixel0000,label", ["1,7"], "a label is 7, allowed are 0..6"),
        ("pixel0000,label", ["256,1"], "damaged or no table of whole numbers"),
        ("pixel0000,label", ["1,1", "1"], "damaged or no table of whole numbers"),
        ("pixel0000,label", ["1,one"], "damaged or no table of whole numbers"),
        ("pixel0000,dx", ["1,1"], "needs the columns pixel0000 to the last of a square image, then label"),
        ("pixel0000,pixel0001,label", ["1,1,1"], "of a square image, then label"),
        ("pixel0000,label", ["1,1,1"], "of a square image, then label"),
        ("label", ["1"], "of a square image, then label"),
        ("pixel0000,label", [], "holds no rows"),
        ("", [], "holds no rows"),
    ],
)
def test_pixels_that_cannot_be_used(header: str, rows: list[str], message: str, tmp_path: Path) -> None:
    file = tmp_path / "own.csv"
    file.write_text("\n".join([header, *rows]))
    with pytest.raises(ValueError, match=rf"own\.csv.*{message}") as caught:
        load(DataSource(name="ham10000", path=str(file)))
    assert "\n" not in str(caught.value)


def test_pixels_are_not_resized(tmp_path: Path) -> None:
    write_pixels(tmp_path / "hmnist_8_8_L.csv", 1, 8)
    with pytest.raises(ValueError, match=r"data\.image-size = 32: .*hmnist_8_8_L\.csv holds 8x8 pixels"):
        load(DataSource(name="ham10000", root=str(tmp_path), image_size=32))
    assert load(DataSource(name="ham10000", root=str(tmp_path), image_size=8, test_share=0.5)).input_shape == (1, 8, 8)


@pytest.mark.skipif(not REAL_PIXELS.is_file(), reason=f"no {REAL_PIXELS}")
def test_real_pixels() -> None:
    loaded = load(DataSource(name="ham10000", path=str(REAL_PIXELS)))
    assert (len(loaded.train), len(loaded.test), loaded.input_shape) == (8012, 2003, (1, 8, 8))
    images, labels = read_pixels(REAL_PIXELS)
    counts = dict(zip(loaded.class_names, np.bincount(labels).tolist(), strict=True))
    # The counts that the authors publish for each diagnosis: they tell which label is which.
    assert counts == {"akiec": 327, "bcc": 514, "bkl": 1099, "df": 115, "nv": 6705, "vasc": 142, "mel": 1113}
    scaled = images / 255
    assert (round(float(scaled.mean()), 4), round(float(scaled.std()), 4)) == (loaded.mean[0], loaded.std[0])
