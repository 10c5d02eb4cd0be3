"""Features of picture files: the pixels an encoder sees, what comes out, and pictures that are refused."""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path, PurePosixPath

import numpy as np
import pytest
import torch
from noise_pictures import Mosaic, features, noise
from PIL import Image

from fedhpro_flwr.data import picture_features
from fedhpro_flwr.data.frozen_encoder import FrozenEncoder, frozen_encoder
from fedhpro_flwr.data.kept_tensor import FOLDER
from fedhpro_flwr.data.picture_features import files_key, square
from fedhpro_flwr.data.pictures import open_pictures, unlisted


@pytest.mark.parametrize(("width", "height"), [(256, 256), (500, 375), (375, 501), (31, 90), (224, 224), (1, 300)])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_an_encoder_sees_what_torchvisions_transforms_make(width: int, height: int, mode: str, tmp_path: Path) -> None:
    from torchvision import transforms

    (tmp_path / "a.png").write_bytes(noise(1, width, height, mode))
    seen = square(unlisted(tmp_path), PurePosixPath("a.png"), FrozenEncoder("any", Mosaic()))
    usual = transforms.Compose([transforms.Resize(256), transforms.CenterCrop(224)])
    with Image.open(tmp_path / "a.png") as image:
        np.testing.assert_array_equal(seen, np.array(usual(image.convert("RGB"))))


def test_an_encoder_sees_photographs_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: what is stored stands on its side
    (tmp_path / "up.png").write_bytes(noise(1, 300, 260, "RGB"))
    with Image.open(tmp_path / "up.png") as image:
        image.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "turned.png", exif=exif)
    up, turned = (
        square(unlisted(tmp_path), PurePosixPath(f"{name}.png"), FrozenEncoder("any", Mosaic()))
        for name in ("up", "turned")
    )
    np.testing.assert_array_equal(turned, up)


def test_features_of_a_real_encoder_are_those_of_its_pictures_one_by_one(tree: Path, resnet18_file: Path) -> None:
    found = features(tree, resnet18_file)
    assert found.shape == (8, 512) and found.dtype == torch.float32
    torch.testing.assert_close(found.square().mean(1), torch.ones(8))
    encoder = frozen_encoder(resnet18_file)
    with open_pictures(tree) as pictures:
        for row, name in list(zip(found, pictures.names, strict=True))[::3]:
            image = torch.from_numpy(square(pictures, name, encoder)).permute(2, 0, 1)
            z = encoder.features(image[None])[0]
            torch.testing.assert_close(row, z / z.square().mean().sqrt(), rtol=1e-4, atol=1e-4)


def test_batches_and_workers_change_nothing(
    tree: Path, weights: Path, loads: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = features(tree, weights)
    shutil.rmtree(tree.parent / FOLDER)
    monkeypatch.setattr(picture_features, "BATCH", 3)
    monkeypatch.setattr(picture_features.os, "cpu_count", lambda: 4)
    assert torch.equal(features(tree, weights), whole)
    assert len(loads) == 2


def test_a_zip_has_the_features_of_its_folder(tree: Path, weights: Path, loads: list[Path], tmp_path: Path) -> None:
    archive = tmp_path / "elsewhere" / "pictures.zip"
    archive.parent.mkdir()
    with zipfile.ZipFile(archive, "w") as writer:
        for file in sorted(tree.rglob("*.png")):
            writer.write(file, file.relative_to(tree))
    assert torch.equal(features(archive, weights), features(tree, weights))


def test_a_damaged_picture_is_named_and_nothing_is_kept(tree: Path, weights: Path, loads: list[Path]) -> None:
    file = tree / "field" / "1.png"
    file.write_bytes(file.read_bytes()[:60])
    with pytest.raises(ValueError, match=r"pictures/field/1\.png is damaged, truncated or no picture"):
        features(tree, weights)
    assert not (tree.parent / FOLDER).exists()


def test_a_picture_of_sixteen_bits_is_refused(tree: Path, weights: Path, loads: list[Path]) -> None:
    Image.fromarray(np.full((9, 9), 40_000, np.uint16)).save(tree / "field" / "1.png")
    with pytest.raises(ValueError, match=r"pictures/field/1\.png has more than 8 bits a pixel; convert it to 8$"):
        features(tree, weights)


def test_a_missing_picture_is_named(tree: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"pictures: the picture bay/9\.png is missing"):
        files_key("any", unlisted(tree), [PurePosixPath("bay/9.png")], ())


def test_weights_that_are_not_finite_are_refused_and_nothing_is_kept(
    tree: Path, weights: Path, loads: list[Path]
) -> None:
    weights.write_text("nan")
    with pytest.raises(ValueError, match=r"data\.weights = '.*power\.txt' gives features that are not finite"):
        features(tree, weights)
    assert not (tree.parent / FOLDER).exists()


def test_a_long_wait_is_explained(
    tree: Path,
    weights: Path,
    loads: list[Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    features(tree, weights)
    assert capsys.readouterr().err == ""
    shutil.rmtree(tree.parent / FOLDER)
    monkeypatch.setattr(picture_features, "BATCH", 4)
    monkeypatch.setattr(picture_features, "SILENCE", -1.0)
    features(tree, weights)
    said = "fedhpro: features by mosaic: 4 of 8 pictures, about 0 minutes left (once: they are kept)\n"
    assert capsys.readouterr().err == said
