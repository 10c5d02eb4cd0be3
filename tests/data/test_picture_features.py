"""Features of picture files: the pixels an encoder sees, what is kept, and what is computed anew."""

from __future__ import annotations

import io
import os
import shutil
import zipfile
from pathlib import Path, PurePosixPath

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from fedhpro_flwr.data import DataSource, load, picture_features
from fedhpro_flwr.data.frozen_encoder import FrozenEncoder, frozen_encoder
from fedhpro_flwr.data.kept_tensor import FOLDER
from fedhpro_flwr.data.picture_features import content_hash, files_key, square
from fedhpro_flwr.data.pictures import open_pictures, unlisted


def noise(seed: int, width: int, height: int, mode: str = "RGB") -> bytes:
    """A picture that no other seed has."""
    shape = (height, width, 3) if mode == "RGB" else (height, width)
    pixels = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Eight pictures of two classes, of several sizes, one of them grey."""
    root = tmp_path / "data" / "pictures"
    for c, name in enumerate(("bay", "field")):
        (root / name).mkdir(parents=True)
        for i in range(4):
            content = noise(10 * c + i, 30 + i, 40 - 3 * i, "L" if i == 3 else "RGB")
            (root / name / f"{i}.png").write_bytes(content)
    return root


@pytest.fixture(autouse=True)
def user_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user"))


class Mosaic(torch.nn.Module):
    """Stands in for an encoder where only the way there and back matters: a power of 4x4 coarse pixels."""

    def __init__(self, power: float = 1.0) -> None:
        super().__init__()
        self.power = torch.nn.Parameter(torch.tensor(power))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.adaptive_avg_pool2d(x, 4).flatten(1) ** self.power


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The encoder is Mosaic; says how often it was loaded."""
    loaded: list[Path] = []

    def fake(path: Path) -> FrozenEncoder:
        loaded.append(path)
        return FrozenEncoder("mosaic", Mosaic(float(path.read_text())), 20, 16, (0.0,) * 3, (1.0,) * 3)

    monkeypatch.setattr(picture_features, "frozen_encoder", fake)
    return loaded


def features(root: Path, weights: Path) -> torch.Tensor:
    with open_pictures(root) as pictures:
        return picture_features.picture_features(pictures, pictures.names, weights)


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    file = tmp_path / "power.txt"
    file.write_text("1.0")
    return file


@pytest.mark.parametrize(("width", "height"), [(256, 256), (500, 375), (375, 501), (31, 90), (224, 224), (1, 300)])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_an_encoder_sees_what_torchvisions_transforms_make(width: int, height: int, mode: str, tmp_path: Path) -> None:
    from torchvision import transforms

    (tmp_path / "a.png").write_bytes(noise(1, width, height, mode))
    seen = square(unlisted(tmp_path), PurePosixPath("a.png"), FrozenEncoder("any", Mosaic()))
    usual = transforms.Compose([transforms.Resize(256), transforms.CenterCrop(224)])
    with Image.open(tmp_path / "a.png") as image:
        np.testing.assert_array_equal(seen, np.array(usual(image.convert("RGB"))))


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


def test_they_are_computed_once(tree: Path, weights: Path, loads: list[Path]) -> None:
    first = features(tree, weights)
    assert torch.equal(features(tree, weights), first) and len(loads) == 1
    assert len(list((tree.parent / FOLDER).iterdir())) == 1
    with open_pictures(tree) as pictures:
        few = picture_features.picture_features(pictures, pictures.names[2:5], weights)
    assert torch.equal(few, first[2:5]) and len(loads) == 2


def test_other_weights_and_other_pictures_are_other_features(tree: Path, weights: Path, loads: list[Path]) -> None:
    first = features(tree, weights)
    weights.write_text("2.0")
    squares = first**2 / (first**2).square().mean(1, keepdim=True).sqrt()
    torch.testing.assert_close(features(tree, weights), squares)
    weights.write_text("1.0")
    assert torch.equal(features(tree, weights), first) and len(loads) == 2
    (tree / "bay" / "0.png").write_bytes(noise(77, 50, 50))
    changed = features(tree, weights)
    assert not torch.equal(changed[0], first[0]) and torch.equal(changed[1:], first[1:])


def bmp(value: int) -> bytes:
    """All of these have the same size."""
    buffer = io.BytesIO()
    Image.new("RGB", (20, 20), (value, 255 - value, 0)).save(buffer, "BMP")
    return buffer.getvalue()


@pytest.mark.parametrize("kind", ["folder", "zip"])
def test_a_replacement_of_the_same_size_is_another_picture(
    kind: str, weights: Path, loads: list[Path], tmp_path: Path
) -> None:
    place = tmp_path / ("pictures.zip" if kind == "zip" else "pictures")

    def write(value: int) -> None:
        if kind == "zip":
            with zipfile.ZipFile(place, "w") as writer:
                writer.writestr("x/0.bmp", bmp(value))
        else:
            (place / "x").mkdir(parents=True, exist_ok=True)
            (place / "x" / "0.bmp").write_bytes(bmp(value))
            os.utime(place / "x" / "0.bmp", ns=(value, value))  # clocks of file systems can be coarse

    write(10)
    first = features(place, weights)
    write(200)
    assert not torch.allclose(features(place, weights), first) and len(loads) == 2


def test_equal_names_and_sizes_in_a_sibling_folder_are_other_pictures(
    weights: Path, loads: list[Path], tmp_path: Path
) -> None:
    for name, value in (("one", 10), ("two", 200)):
        (tmp_path / name / "x").mkdir(parents=True)
        (tmp_path / name / "x" / "0.bmp").write_bytes(bmp(value))
        os.utime(tmp_path / name / "x" / "0.bmp", ns=(5, 5))
    assert not torch.allclose(features(tmp_path / "one", weights), features(tmp_path / "two", weights))


@pytest.mark.parametrize("package", ["torch", "torchvision", "pillow"])
def test_another_version_of_a_package_computes_anew(
    package: str, tree: Path, weights: Path, loads: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    features(tree, weights)
    installed = picture_features.metadata.version
    monkeypatch.setattr(picture_features.metadata, "version", lambda name: "99" if name == package else installed(name))
    features(tree, weights)
    features(tree, weights)
    assert len(loads) == 2


def test_transformers_counts_where_the_weights_are_a_folder(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    monkeypatch.setattr(picture_features.metadata, "version", lambda name: asked.append(name) or "1")
    monkeypatch.setattr(picture_features, "_compute", lambda *_: torch.ones(8, 2))
    (tmp_path / "model").mkdir()
    features(tree, tmp_path / "model")
    assert asked == ["torch", "torchvision", "pillow", "transformers"]


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
    with pytest.raises(ValueError, match=r"pictures: field/1\.png is damaged, truncated or no picture"):
        features(tree, weights)
    assert not (tree.parent / FOLDER).exists()


def test_a_picture_of_sixteen_bits_is_refused(tree: Path, weights: Path, loads: list[Path]) -> None:
    Image.fromarray(np.full((9, 9), 40_000, np.uint16)).save(tree / "field" / "1.png")
    with pytest.raises(ValueError, match=r"pictures: field/1\.png has more than 8 bits a pixel; convert it to 8$"):
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


def test_content_hash_of_files_and_folders(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes(b"{}")
    (tmp_path / "model.safetensors").write_bytes(b"abc")
    # sha256 of "abc", FIPS 180-2
    assert content_hash(tmp_path / "model.safetensors").startswith("ba7816bf8f01cfea414140de5dae2223")
    before = content_hash(tmp_path)
    assert content_hash(tmp_path) == before
    (tmp_path / "model.safetensors").rename(tmp_path / "other.safetensors")
    renamed = content_hash(tmp_path)
    (tmp_path / "other.safetensors").write_bytes(b"abd")
    assert len({before, renamed, content_hash(tmp_path)}) == 3


def folder_source(tree: Path, weights: Path, **options: float) -> DataSource:
    return DataSource("feature-folder", path=str(tree), weights=str(weights), **options)  # type: ignore[arg-type]


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
        load(DataSource("feature-folder", path=str(tree)))
    with pytest.raises(FileNotFoundError, match=r"data\.weights = .*w\.pth' does not exist"):
        load(folder_source(tree, tmp_path / "w.pth"))
