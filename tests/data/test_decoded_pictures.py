"""One picture as it is decoded: colours, orientation, pages, size; in training and in predict alike."""

from __future__ import annotations

import os
import struct
from pathlib import Path, PurePosixPath

import numpy as np
import pytest
import torch
from pictures import fill, png
from PIL import Image

from fedhpro_flwr.data import DataSource, load
from fedhpro_flwr.data.pictures import decode, unlisted
from fedhpro_flwr.exported.description import ModelDescription
from fedhpro_flwr.exported.samples import pixels_of


def saved(file: Path, mode: str) -> Path:
    """A picture of all grey levels from 0 to 252, stored in a mode of Pillow's."""
    grey = Image.fromarray(np.arange(0, 256, 4, dtype=np.uint8).reshape(8, 8))
    image = grey.convert("RGB").convert(mode) if mode == "CMYK" else grey.convert(mode)
    if mode in ("LA", "PA", "RGBA"):
        image.putalpha(grey)
    # A palette's transparency is no channel, and Pillow warns where it is dropped.
    image.save(file, **({"transparency": bytes(range(256))} if mode == "P" else {}))
    with Image.open(file) as stored:
        assert stored.mode == mode
    return file


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("mode", "suffix", "channels"),
    [("1", ".png", 1), ("L", ".png", 1), ("LA", ".png", 1), ("LA", ".tif", 1),
     ("P", ".png", 3), ("PA", ".tif", 3), ("RGB", ".png", 3), ("RGBA", ".png", 3), ("CMYK", ".tif", 3)],
)  # fmt: skip
@pytest.mark.parametrize("image_size", [0, 8, 4])
def test_grey_and_colour_as_they_are_stored_alike_in_training_and_in_predict(
    mode: str, suffix: str, channels: int, image_size: int, tmp_path: Path
) -> None:
    file = saved(tmp_path / f"a{suffix}", mode)
    decoded = decode(unlisted(tmp_path), [PurePosixPath(file.name)], image_size=image_size)
    side = image_size or 8
    assert decoded.shape == (1, channels, side, side)
    if side == 8 and mode != "1":
        assert (decoded[0] == torch.arange(0, 256, 4).view(8, 8)).all()  # what is transparent counts too
    model = ModelDescription(
        architecture="cnn", width=0, input_kind="uint8-images", input_shape=(channels, side, side),
        class_names=("a", "b"), mean=(0.5,) * channels, std=(0.5,) * channels,
    )  # fmt: skip
    assert torch.equal(pixels_of(file, model), decoded[0])


QUARTERS = np.kron(np.array([[0, 80, 160], [240, 120, 40]], np.uint8), np.ones((8, 8), np.uint8))  # [16, 24]


def test_a_tag_of_another_type_is_damage(tmp_path: Path) -> None:
    """Pillow raises TypeError at the place of a TIFF's strip that is a text."""
    tags = [(256, 4, 8), (257, 4, 8), (258, 3, 8), (259, 3, 1), (262, 3, 1), (273, 2, 122), (278, 4, 8), (279, 4, 64)]
    entries = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in tags)
    head = b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries
    (tmp_path / "a.tif").write_bytes(head + bytes(4) + bytes(64))
    with pytest.raises(ValueError, match=r"a\.tif is damaged, truncated or no picture \("):
        decode(unlisted(tmp_path), [PurePosixPath("a.tif")])


def test_a_model_of_wide_pictures_gets_them_wide(tmp_path: Path) -> None:
    Image.fromarray(QUARTERS).save(tmp_path / "a.png")
    for height, width in ((4, 6), (16, 24), (8, 24)):
        model = ModelDescription(
            architecture="cnn", width=0, input_kind="uint8-images", input_shape=(1, height, width),
            class_names=("a", "b"), mean=(0.5,), std=(0.5,),
        )  # fmt: skip
        assert model.takes == f"grey images of {width}x{height} pixels"
        expected = Image.fromarray(QUARTERS).resize((width, height), Image.Resampling.BILINEAR)
        assert np.array_equal(pixels_of(tmp_path / "a.png", model)[0].numpy(), np.asarray(expected))


STORED = {
    1: QUARTERS, 2: np.fliplr(QUARTERS), 3: np.rot90(QUARTERS, 2), 4: np.flipud(QUARTERS),
    5: QUARTERS.T, 6: np.rot90(QUARTERS), 7: np.rot90(QUARTERS, 2).T, 8: np.rot90(QUARTERS, -1),
}  # fmt: skip


@pytest.mark.parametrize("orientation", STORED)
@pytest.mark.parametrize("suffix", [".png", ".tif", ".jpg", ".webp"])
@pytest.mark.parametrize("image_size", [0, 4])
def test_photographs_stand_upright_in_training_and_in_predict(
    orientation: int, suffix: str, image_size: int, tmp_path: Path
) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = tmp_path / f"a{suffix}"
    Image.fromarray(STORED[orientation]).save(
        file, exif=exif, **({"lossless": True} if suffix == ".webp" else {"quality": 100} if suffix == ".jpg" else {})
    )
    decoded = decode(unlisted(tmp_path), [PurePosixPath(file.name)], image_size=image_size)
    Image.fromarray(QUARTERS).save(tmp_path / "plain.png")
    upright = decode(unlisted(tmp_path), [PurePosixPath("plain.png")], image_size=image_size)
    assert (decoded[:, :1].int() - upright.int()).abs().max() <= (2 if suffix == ".jpg" else 0)
    model = ModelDescription(
        architecture="cnn", width=0, input_kind="uint8-images", input_shape=tuple(decoded.shape[1:]),
        class_names=("a", "b"), mean=(0.5,) * decoded.shape[1], std=(0.5,) * decoded.shape[1],
    )  # fmt: skip
    if image_size:
        assert torch.equal(pixels_of(file, model), decoded[0])


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
@pytest.mark.parametrize("exif", [b"", b"junk", b"Exif\0\0XX*\0\x08", b"Exif\0\0II*\0\xff\xff\xff\xff"])
@pytest.mark.parametrize("suffix", [".png", ".webp"])
def test_damaged_exif_data_cost_the_orientation_alone(exif: bytes, suffix: str, tmp_path: Path) -> None:
    file = tmp_path / f"a{suffix}"
    Image.fromarray(QUARTERS).save(file, exif=exif, **({"lossless": True} if suffix == ".webp" else {}))
    found = decode(unlisted(tmp_path), [PurePosixPath(file.name)])
    assert torch.equal(found[0, 0], torch.from_numpy(QUARTERS))


def test_the_first_page_counts(tmp_path: Path) -> None:
    pages = [Image.new("L", (6, 5), value) for value in (3, 9)]
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:])
    assert decode(unlisted(tmp_path), [PurePosixPath("a.tif")]).unique().tolist() == [3]


def test_a_large_jpeg_is_resized_as_if_it_were_decoded_whole(tmp_path: Path) -> None:
    coarse = np.random.default_rng(0).integers(0, 256, (45, 60, 3), dtype=np.uint8)
    photo = Image.fromarray(coarse).resize((600, 450), Image.Resampling.BICUBIC)
    for part in ("train", "test"):
        (tmp_path / part / "a").mkdir(parents=True)
        photo.save(tmp_path / part / "a" / "photo.jpg", quality=90)
    with Image.open(tmp_path / "train" / "a" / "photo.jpg") as whole:
        expected = np.asarray(whole.resize((32, 32), Image.Resampling.BILINEAR)).astype(int)  # [32, 32, 3]
    resized = load(DataSource(name="image-folder", path=str(tmp_path), image_size=32)).train.inputs[0].permute(1, 2, 0)
    assert np.abs(resized.numpy().astype(int) - expected).max() <= 2


@pytest.mark.parametrize(
    ("pixels", "suffix"),
    [(np.full((5, 6), 300, np.uint16), ".png"), (np.full((5, 6), 300, np.uint16), ".tif"),
     (np.full((5, 6), 70_000, np.int32), ".tiff"), (np.full((5, 6), 0.5, np.float32), ".tif")],
    ids=["I;16 png", "I;16 tif", "I", "F"],
)  # fmt: skip
@pytest.mark.parametrize("image_size", [0, 4])
def test_pictures_of_more_than_eight_bits_are_refused(
    pixels: np.ndarray, suffix: str, image_size: int, tmp_path: Path
) -> None:
    fill(tmp_path, {"train/a/0.png": png(), "test/a/0.png": png()})
    Image.fromarray(pixels).save(tmp_path / "train" / "a" / f"deep{suffix}")
    with pytest.raises(
        ValueError, match=rf"train/a/deep\{suffix} has more than 8 bits a pixel; convert it to 8$"
    ) as caught:
        load(DataSource(name="image-folder", path=str(tmp_path), image_size=image_size))
    assert "\n" not in str(caught.value)


def test_a_device_or_a_pipe_is_no_picture_and_is_not_waited_for(tmp_path: Path) -> None:
    fill(tmp_path, {"train/a/0.png": png(), "test/a/0.png": png()})
    said = "x.png is damaged, truncated or no picture (it is a pipe or a device)"
    name = tmp_path / "train" / "a" / "x.png"
    for make in (lambda: name.symlink_to("/dev/null"), lambda: os.mkfifo(name)):
        make()
        with pytest.raises(ValueError) as caught:
            load(DataSource(name="image-folder", path=str(tmp_path)))
        assert str(caught.value) == str(name.with_name(said))
        name.unlink()
