"""Features are computed once, and anew wherever pictures, weights or packages are others."""

from __future__ import annotations

import io
import os
import zipfile
from pathlib import Path

import pytest
import torch
from noise_pictures import features, noise
from PIL import Image

from fedhpro_flwr.data import picture_features
from fedhpro_flwr.data.kept_tensor import FOLDER
from fedhpro_flwr.data.picture_features import content_hash
from fedhpro_flwr.data.pictures import open_pictures


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


@pytest.mark.parametrize("moved", [("x", "y"), ("x/0.bmp", "y/0.bmp")], ids=["folders", "files"])
def test_pictures_of_one_size_and_time_that_change_places_are_others(
    moved: tuple[str, str], weights: Path, loads: list[Path], tmp_path: Path
) -> None:
    place = tmp_path / "pictures"
    for name, value in (("x", 10), ("y", 200)):
        (place / name).mkdir(parents=True)
        (place / name / "0.bmp").write_bytes(bmp(value))
        os.utime(place / name / "0.bmp", ns=(5, 5))  # as unpacked from an archive that was made reproducible
    first = features(place, weights)
    one, other = (place / name for name in moved)
    one.rename(place / "aside")
    other.rename(one)
    (place / "aside").rename(other)  # each keeps its size and its time
    assert torch.equal(features(place, weights), first.flip(0)) and len(loads) == 2


def test_a_picture_of_one_size_and_time_written_in_place_is_another(
    weights: Path, loads: list[Path], tmp_path: Path
) -> None:
    file = tmp_path / "pictures" / "x" / "0.bmp"
    file.parent.mkdir(parents=True)
    kept = []
    for value in (10, 200):
        before = file.stat().st_ctime_ns if file.exists() else 0
        while not file.exists() or file.stat().st_ctime_ns == before:  # clocks of file systems can be coarse
            file.write_bytes(bmp(value))
            os.utime(file, ns=(5, 5))
        kept.append(features(tmp_path / "pictures", weights))
    assert not torch.allclose(*kept) and len(loads) == 2


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
