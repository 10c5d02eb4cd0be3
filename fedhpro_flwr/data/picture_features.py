"""Features of picture files by a frozen pretrained encoder: computed once, then kept in a file beside the pictures.

Pictures are read in batches, so a set that does not fit into memory can be used.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import sys
import time
import zipfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata
from pathlib import Path, PurePosixPath

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from fedhpro_flwr.data.frozen_encoder import FrozenEncoder, frozen_encoder
from fedhpro_flwr.data.kept_tensor import file_state, kept_tensor
from fedhpro_flwr.data.pictures import Picture, PictureFolder, open_picture, zip_entries

RECIPE = "frozen features, 2"  # to be raised when what is computed changes: it makes all that is kept invalid
BATCH = 16  # small: every worker holds one batch's activations, about 150 MB for a ResNet-18
MOST_WORKERS = 8
SILENCE = 30.0  # seconds between two lines about the progress


def picture_features(pictures: PictureFolder, names: Sequence[PurePosixPath], weights: Path) -> Tensor:
    """Features of pictures, kept beside `pictures.path` until the weights, the files or the packages change.

    Each picture's features are divided by their own root mean square: encoders differ in scale by a factor of ten, and
    one learning rate should do for all. A number over all pictures would have to leave the clients.

    They are computed on a GPU if there is one, else on as many CPU cores as torch's threads leave free; the batches
    and their arithmetic do not depend on that number.

    Args:
        pictures: where they are read.
        names: of the pictures, at least one.
        weights: file or folder of the encoder, see `frozen_encoder`.

    Returns:
        float32 [N, F] of mean square 1, in the order of `names`.

    Raises:
        FileNotFoundError: a picture is missing.
        ValueError: unusable weights, or a damaged picture.
    """
    packages = ("torch", "torchvision", "pillow", *(("transformers",) if weights.is_dir() else ()))
    key = files_key(RECIPE, pictures, names, packages, content_hash(weights))
    return kept_tensor(pictures.path.parent, key, lambda: _compute(pictures, names, weights))


def files_key(
    recipe: str, pictures: PictureFolder, names: Sequence[PurePosixPath], packages: Sequence[str], *others: str
) -> str:
    """A hash over everything that a tensor made of pictures depends on, without reading them.

    Args:
        recipe: what is computed.
        pictures: the folder or .zip; its place counts, since equal names and sizes do not make equal pictures.
        names: of the pictures, which count with what `file_state` says of each, or with size and checksum in a .zip.
        packages: that compute it; their installed versions count.
        others: whatever else counts.

    Raises:
        FileNotFoundError: a picture is missing.
    """
    if pictures.path.is_dir():
        files = [[str(name), *_state(pictures, name)] for name in names]
    else:
        with zipfile.ZipFile(pictures.path) as archive:
            states = {name: (info.file_size, info.CRC) for name, info in zip_entries(archive).items()}
        files = [[str(name), *states[name]] for name in names]
    parts = [recipe, str(pictures.path.resolve()), files, [*map(package_version, packages)], *others]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _state(pictures: PictureFolder, name: PurePosixPath) -> tuple[int, ...]:
    try:
        return file_state(pictures.path / name)
    except FileNotFoundError:
        raise FileNotFoundError(f"{pictures.path}: the picture {name} is missing; unpack the data set again") from None


def package_version(package: str) -> str:
    """Name and version of an installed package; the name alone of one that is not."""
    try:
        return f"{package} {metadata.version(package)}"
    except metadata.PackageNotFoundError:  # the code that needs the package says so
        return package


def content_hash(path: Path) -> str:
    """SHA-256 of a file, or of the names and contents of the files directly in a folder."""
    if not path.is_dir():
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    parts = [f"{file.name} {content_hash(file)}\n" for file in sorted(path.iterdir()) if file.is_file()]
    return hashlib.sha256("".join(parts).encode()).hexdigest()


def _compute(pictures: PictureFolder, names: Sequence[PurePosixPath], weights: Path) -> Tensor:
    encoder = frozen_encoder(weights)
    encoder.module.to("cuda" if torch.cuda.is_available() else "cpu")

    def batch(first: int) -> Tensor:
        images = [square(pictures, name, encoder) for name in names[first : first + BATCH]]
        return encoder.features(torch.from_numpy(np.stack(images).transpose(0, 3, 1, 2))).cpu()

    # Threads suffice: Pillow and torch let go of the interpreter while they work.
    workers = max(1, min(MOST_WORKERS, (os.cpu_count() or 1) // torch.get_num_threads()))
    features: list[Tensor] = []
    started = told = time.monotonic()
    with ThreadPoolExecutor(workers) as pool:
        for part in pool.map(batch, range(0, len(names), BATCH)):
            features.append(part)
            now, done = time.monotonic(), BATCH * len(features)
            if now - told > SILENCE and done < len(names):
                told, left = now, (now - started) / done * (len(names) - done)
                print(
                    f"fedhpro: features by {encoder.name}: {done} of {len(names)} pictures, "
                    f"about {left / 60:.0f} minutes left (once: they are kept)",
                    file=sys.stderr,
                )
    found = torch.cat(features)  # [N, F]
    if not bool(torch.isfinite(found).all()):
        raise ValueError(f"data.weights = {str(weights)!r} gives features that are not finite; the file is damaged")
    return unit_features(found)


def unit_features(features: Tensor) -> Tensor:
    """Each picture's features [N, F] divided by their own root mean square."""
    unit: Tensor = F.normalize(features)
    return unit * math.sqrt(features.shape[1])


def square(pictures: PictureFolder, name: PurePosixPath, encoder: FrozenEncoder) -> Picture:
    """A picture as encoders were trained on it, [S, S, 3]: resized by its shorter side, cut square from the middle.

    Raises:
        ValueError: it cannot be opened.
    """
    from torchvision.transforms.functional import center_crop, resize  # slow to import, not needed for kept features

    image = open_picture(pictures, name).convert("RGB")
    return np.array(center_crop(resize(image, encoder.shorter_side), encoder.image_size), dtype=np.uint8)
