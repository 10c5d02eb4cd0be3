"""`vit`: a small vision transformer (Dosovitskiy et al. 2021) for images of 8x8 to 64x64 pixels.

Features are the mean over the patches instead of a class token: better with few samples, and one token less. No
dropout, so that two runs with the same seed also train alike, whatever else drew from the generator.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from fedhpro_flwr.models.layers import linear_relu
from fedhpro_flwr.models.model import Model, ModelShape, model
from fedhpro_flwr.models.transformer_layer import TransformerLayer

PATCH = 4  # pixels
TOKEN = 128  # E, numbers per patch
LAYERS = 6
HEADS = 4
HIDDEN = 256  # units between the two linears of a layer
SMALLEST_SIDE = 8  # 2x2 patches: a single one would have nothing to attend to


@model("vit")
def vit(shape: ModelShape) -> Model:
    """Patches of 4x4 pixels, six pre-norm transformer layers, the mean over patches, linear-ReLU to D, the head.

    D is 128 unless another is asked for; features are non-negative.

    Raises:
        ValueError: the inputs are no images, are smaller than 8x8 pixels, or have a side that 4 does not divide.
    """
    channels, height, columns = shape.image("vit", SMALLEST_SIDE)
    if height % PATCH or columns % PATCH:
        raise ValueError(
            f"model 'vit' cuts images into patches of {PATCH}x{PATCH} pixels, the data has {height}x{columns}; "
            f"choose a data.image-size that {PATCH} divides, or another model"
        )
    width = shape.width or TOKEN
    patches = (height // PATCH) * (columns // PATCH)
    encoder = nn.Sequential(
        Patches(channels, patches),
        *(TransformerLayer(TOKEN, HEADS, HIDDEN) for _ in range(LAYERS)),
        MeanToken(),
        *linear_relu(TOKEN, width),
    )
    return Model(encoder, nn.Linear(width, shape.num_classes))


class Patches(nn.Module):
    """A linear map of each patch, plus a vector that is learnt for its place."""

    def __init__(self, channels: int, patches: int) -> None:
        super().__init__()
        self.linear = nn.Conv2d(channels, TOKEN, PATCH, PATCH)
        self.places = nn.Parameter(nn.init.trunc_normal_(torch.empty(patches, TOKEN), std=0.02))

    def forward(self, x: Tensor) -> Tensor:
        """[B, ch, H, W] -> tokens [B, T, E], row by row."""
        return cast(Tensor, self.linear(x)).flatten(2).transpose(1, 2) + self.places


class MeanToken(nn.Module):
    """The mean over the normalised tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(TOKEN)

    def forward(self, x: Tensor) -> Tensor:
        """[B, T, E] -> [B, E]."""
        return cast(Tensor, self.norm(x)).mean(1)
