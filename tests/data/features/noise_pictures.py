"""Pictures of noise, an encoder that costs nothing, and the features of a folder of pictures."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.nn import functional as F

from fedhpro_flwr.data import picture_features
from fedhpro_flwr.data.pictures import open_pictures


def noise(seed: int, width: int, height: int, mode: str = "RGB") -> bytes:
    """A picture that no other seed has."""
    shape = (height, width, 3) if mode == "RGB" else (height, width)
    pixels = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


class Mosaic(torch.nn.Module):
    """Stands in for an encoder where only the way there and back matters: a power of 4x4 coarse pixels."""

    def __init__(self, power: float = 1.0) -> None:
        super().__init__()
        self.power = torch.nn.Parameter(torch.tensor(power))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.adaptive_avg_pool2d(x, 4).flatten(1) ** self.power


def features(root: Path, weights: Path) -> torch.Tensor:
    """Of all pictures in the folder or zip, a row each, in the order of their names."""
    with open_pictures(root) as pictures:
        return picture_features.picture_features(pictures, pictures.names, weights)
