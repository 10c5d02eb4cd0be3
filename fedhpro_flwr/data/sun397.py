"""`sun397`: the scenes of SUN397 (Xiao et al. 2010), 108,754 photographs of 397 classes, 37 GB.

    root/SUN397/ClassName.txt                               one class a line, /a/abbey
    root/SUN397/a/abbey/*.jpg, a/apartment_building/outdoor/*.jpg
    root/SUN397/[Partitions/]Training_01.txt, Testing_01.txt    optional: the standard split, 50 + 50 of each class

With `weights` the samples are features of a frozen encoder, as published; without, small images.
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath

import numpy as np
import torch
from torch import Tensor

from fedhpro_flwr.data.augment import IMAGENET_MEAN, IMAGENET_STD
from fedhpro_flwr.data.data_set import DataSet, Split
from fedhpro_flwr.data.frozen_encoder import weights_path
from fedhpro_flwr.data.hold_out import hold_out
from fedhpro_flwr.data.kept_tensor import kept_tensor
from fedhpro_flwr.data.picture_features import files_key, picture_features
from fedhpro_flwr.data.pictures import decode, unlisted
from fedhpro_flwr.data.public_files import fetching
from fedhpro_flwr.data.registry import DataSource, data_set

IMAGE_SIZE = 64
CLASSES, TRAINING, TESTING = "ClassName.txt", "Training_01.txt", "Testing_01.txt"


@data_set("sun397", uses=("image_size", "weights"))
def sun397(source: DataSource) -> DataSet:
    """Photographs from `root`/SUN397, as features [N, F] or as uint8 images [N, 3, S, S], S = `image_size` or 64.

    The test part is that of Testing_01.txt, or `test_share` of each class if there is no such file. Features and
    images are kept beside the folder, because reading the photographs takes long.

    Raises:
        FileNotFoundError: the folder, a file of it or `weights` is missing.
        ValueError: a list cannot be used, a picture is damaged, or the weights cannot be used.
    """
    weights = weights_path(source.name, source.weights) if source.weights else None
    if weights and source.image_size:
        raise ValueError(
            f"data.image-size = {source.image_size}: data set 'sun397' does not use it beside data.weights, "
            "an encoder has a size of its own; leave it out"
        )
    folder = _folder(source)
    classes = _classes(folder)
    training, testing = (_listed(folder, name, classes) for name in (TRAINING, TESTING))
    if bool(training) != bool(testing):
        raise FileNotFoundError(f"{folder} has one of {TRAINING} and {TESTING}; put the other one beside it")
    if common := set(training) & set(testing):
        raise ValueError(f"{folder}: /{min(common)} is in both {TRAINING} and {TESTING}; put the original files there")
    names = training + testing or _all_pictures(folder, classes)
    labels = np.array([classes[name.parent] for name in names], dtype=np.int64)
    if training:
        parts = np.arange(len(training)), np.arange(len(training), len(names))
    else:
        parts = hold_out(labels, source.test_share, source.split_seed)
    samples = Split(_inputs(source, folder, names, weights), torch.from_numpy(labels))
    train, test = map(samples.subset, parts)
    constants = ((0.0,), (1.0,)) if weights else (IMAGENET_MEAN, IMAGENET_STD)
    return DataSet("sun397", train, test, tuple("/".join(c.parts[1:]) for c in classes), *constants)


def _inputs(source: DataSource, folder: Path, names: list[PurePosixPath], weights: Path | None) -> Tensor:
    """float32 features [N, F], or uint8 images [N, 3, S, S] without weights."""
    pictures = unlisted(folder)
    if weights:
        return picture_features(pictures, names, weights)
    size = source.image_size or IMAGE_SIZE
    key = files_key(f"images of {size} pixels, 2", pictures, names, ("pillow",))
    return kept_tensor(folder.parent, key, lambda: decode(pictures, names, image_size=size, colour=True))


def _folder(source: DataSource) -> Path:
    root = source.folder()
    folder = root / "SUN397"
    if source.download and not folder.is_dir():
        from torchvision.datasets import SUN397  # slow to import

        with fetching(source, "SUN397.tar.gz", f"unpack it into {root}"):
            SUN397(str(root), download=True)
    if not (folder / CLASSES).is_file():
        raise FileNotFoundError(
            f"data set 'sun397': unpack SUN397.tar.gz (37 GB) into {root}, so that {folder / CLASSES} exists "
            "(data.download = true would fetch it)"
        )
    return folder


def _classes(folder: Path) -> dict[PurePosixPath, int]:
    """The classes' folders, as a/abbey, and their labels."""
    lines = (folder / CLASSES).read_text(encoding="utf-8").split()
    classes = {PurePosixPath(line.lstrip("/")): label for label, line in enumerate(lines)}
    for place in classes:
        if len(place.parts) < 2:
            raise ValueError(f"{folder / CLASSES}: {str(place)!r} is no class, lines are like /a/abbey")
        if not (folder / place).is_dir():
            raise FileNotFoundError(f"{folder} has no folder {place}, which {CLASSES} names; unpack it again")
    return classes


def _listed(folder: Path, name: str, classes: dict[PurePosixPath, int]) -> list[PurePosixPath]:
    """The pictures that a file of the standard split lists; none if there is no such file."""
    file = next((file for file in (folder / "Partitions" / name, folder / name) if file.is_file()), None)
    if file is None:
        return []
    names = [PurePosixPath(line.lstrip("/")) for line in file.read_text(encoding="utf-8").split()]
    for number, picture in enumerate(names, start=1):
        if picture.parent not in classes:
            raise ValueError(f"{file}, line {number}: /{picture} lies in none of the classes of {CLASSES}")
    if not names:
        raise ValueError(f"{file} lists no pictures; put the original file there, or delete both lists")
    return names


def _all_pictures(folder: Path, classes: dict[PurePosixPath, int]) -> list[PurePosixPath]:
    names = []
    for place in classes:
        own = sorted(place / file.name for file in (folder / place).glob("*.jpg"))
        if not own:
            raise ValueError(f"{folder}: the class folder {place} holds no .jpg pictures; unpack it again")
        names += own
    return names
