"""Turns arrays, picture files and texts into samples that a model takes, or refuses them in a sentence."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fedhpro_flwr.data.declared import CHANNELS
from fedhpro_flwr.data.frozen_encoder import FrozenEncoder
from fedhpro_flwr.data.npz import samples_of_array
from fedhpro_flwr.data.picture_features import BATCH, square, unit_features
from fedhpro_flwr.data.pictures import open_picture, unlisted
from fedhpro_flwr.data.registry import DataSource
from fedhpro_flwr.data.tokens import tokenize
from fedhpro_flwr.exported.description import ModelDescription


def of_array(array: npt.NDArray[np.generic], described: ModelDescription) -> Tensor:
    """Samples [N, ...] from an array in one of the shapes that a .npz file may have.

    Raises:
        ValueError: another kind of sample, another shape, or floats that are not finite.
    """
    if described.input_kind == "text":
        raise ValueError(f"it holds numbers, the model takes {described.takes}")
    inputs = samples_of_array(array, (*CHANNELS, described.input_shape[0]))
    if tuple(inputs.shape[1:]) != described.input_shape:
        shape = list(inputs.shape[1:])
        raise ValueError(
            f"its samples have shape {shape}, the model takes {list(described.input_shape)}: {described.takes}"
        )
    if len(inputs) == 0:
        raise ValueError("it holds no sample")
    if inputs.is_floating_point() and not bool(torch.isfinite(inputs).all()):
        raise ValueError("it holds NaN or infinite numbers, only finite ones are allowed")
    return inputs


def of_texts(texts: Sequence[str], described: ModelDescription, tokenizer: Path | None) -> Tensor:
    """Token ids [N, L] int32.

    Raises:
        ValueError: the tokenizer cannot be used.
    """
    source = DataSource(
        name="text-csv",
        text_length=described.input_shape[0],
        vocabulary=described.vocabulary,
        tokenizer=str(tokenizer) if tokenizer else "hashing",
    )
    tokens, vocabulary = tokenize(texts, source)
    if vocabulary != described.vocabulary:
        raise ValueError(f"the tokenizer has {vocabulary} token ids, the model {described.vocabulary}")
    return tokens


def of_pictures(files: Sequence[Path], described: ModelDescription, frozen: FrozenEncoder | None) -> Tensor:
    """uint8 images [N, ch, H, W], or the features [N, F] of a frozen encoder.

    Raises:
        ValueError: the model takes no pictures, or one cannot be read.
    """
    if not takes_pictures(described):
        raise ValueError(f"the model takes {described.takes}, no pictures")
    return of_pixels([pixels_of(file, described, frozen) for file in files], frozen)


def takes_pictures(described: ModelDescription) -> bool:
    """Whether samples can be picture files."""
    return described.input_kind == "features" or (described.is_image and described.input_shape[0] in CHANNELS)


def pixels_of(file: Path, described: ModelDescription, frozen: FrozenEncoder | None = None) -> Tensor:
    """One picture as in training, uint8 [ch, H, W]: grey or in colour as the model needs it, and resized to its size.

    Resizing is bilinear, smooths if the picture shrinks, and does not keep the aspect ratio. For a frozen encoder the
    shorter side is resized, and a square is cut from the middle.

    Raises:
        ValueError: it cannot be read.
    """
    from PIL import Image  # a model of vectors or texts does not need it

    folder, name = unlisted(file.parent), PurePosixPath(file.name)
    if frozen is not None:
        return torch.from_numpy(square(folder, name, frozen).transpose(2, 0, 1).copy())
    channels, height, width = described.input_shape
    # Large JPEGs are decoded at a fraction of their size, as in training.
    image = open_picture(folder, name, least_side=4 * max(height, width))
    image = image.convert("L" if channels == 1 else "RGB")
    if image.size != (width, height):
        image = image.resize((width, height), Image.Resampling.BILINEAR)
    pixels = torch.from_numpy(np.array(image, dtype=np.uint8))  # [H, W] or [H, W, 3]
    return pixels[None] if channels == 1 else pixels.permute(2, 0, 1).contiguous()


def of_pixels(pixels: Sequence[Tensor], frozen: FrozenEncoder | None) -> Tensor:
    """One batch [N, ch, H, W] of what `pixels_of` returned, or its features [N, F]."""
    images = torch.stack(list(pixels))
    if frozen is None:
        return images
    return unit_features(torch.cat([frozen.features(part).cpu() for part in torch.split(images, BATCH)]))
