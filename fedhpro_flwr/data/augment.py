"""Batches of images to normalised floats, and their random crop and flip, on the device that holds the batch.

The reference draws one crop and one flip for the whole batch (`per-batch`); one draw for every image is the
usual augmentation and the default.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

Draw = Literal["per-sample", "per-batch"]


def to_float(inputs: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Normalise a batch: uint8 is scaled to [0, 1] first, then (x - mean) / std per channel.

    Args:
        inputs: uint8 or float32 images [B, ch, H, W], or float32 vectors [B, F].
        mean, std: ch numbers each, or one for vectors.

    Returns:
        float32 of the shape of `inputs`; `inputs` stays as it is.
    """
    x = inputs.float().div(255) if inputs.dtype == torch.uint8 else inputs
    shape = (-1, 1, 1) if inputs.ndim == 4 else (-1,)
    center = torch.tensor(mean, dtype=torch.float32, device=x.device).view(shape)
    scale = torch.tensor(std, dtype=torch.float32, device=x.device).view(shape)
    return (x - center).div_(scale)


def crop_and_flip(
    x: Tensor,
    *,
    draw: Draw = "per-sample",
    padding: int = 4,
    flip: bool = True,
    generator: torch.Generator,
) -> Tensor:
    """Pad with zeros, crop a random window of the original size, mirror the width with probability 1/2.

    Zeros after normalisation are the mean colour. Row and column of the window are uniform in 0..2*padding.

    Args:
        x: normalised images [B, ch, H, W].
        draw: one draw for every image, or one for the whole batch (the reference).
        padding: pixels on each side.
        flip: whether to mirror.
        generator: on the CPU, so that the draws do not depend on the device.

    Returns:
        Images [B, ch, H, W] on the device of `x`.

    Raises:
        ValueError: `x` is no batch of images, `padding` is negative, or `draw` is unknown.
    """
    if x.ndim != 4:
        raise ValueError(f"crop_and_flip needs images [B, ch, H, W], got {list(x.shape)}")
    if padding < 0:
        raise ValueError(f"padding = {padding}: it must be 0 or larger")
    if draw == "per-batch":
        return _once_for_the_batch(x, padding, flip, generator)
    if draw == "per-sample":
        return _once_for_each_image(x, padding, flip, generator)
    raise ValueError(f"draw = {draw!r} is unknown, allowed are 'per-sample' and 'per-batch'")


def _once_for_the_batch(x: Tensor, padding: int, flip: bool, generator: torch.Generator) -> Tensor:
    height, width = x.shape[-2:]
    row = int(torch.randint(2 * padding + 1, (), generator=generator))
    column = int(torch.randint(2 * padding + 1, (), generator=generator))
    mirrored = flip and float(torch.rand((), generator=generator)) < 0.5
    padded = F.pad(x, (padding, padding, padding, padding))
    window = padded[:, :, row : row + height, column : column + width]
    return window.flip(-1) if mirrored else window.contiguous()


def _once_for_each_image(x: Tensor, padding: int, flip: bool, generator: torch.Generator) -> Tensor:
    count, channels, height, width = x.shape
    rows = torch.randint(2 * padding + 1, (count, 1), generator=generator)  # [B, 1]
    columns = torch.randint(2 * padding + 1, (count, 1), generator=generator)  # [B, 1]
    rows = rows + torch.arange(height)  # [B, H] rows of the padded image
    columns = columns + torch.arange(width)  # [B, W]
    if flip:
        mirrored = torch.rand(count, 1, generator=generator) < 0.5
        # Reading backwards is the flip: no second pass.
        columns = torch.where(mirrored, columns.flip(1), columns)
    padded = F.pad(x, (padding, padding, padding, padding)).permute(0, 2, 3, 1)  # [B, H+2p, W+2p, ch]
    images = torch.arange(count).view(-1, 1, 1)
    pixels = (images * padded.shape[1] + rows[:, :, None]) * padded.shape[2] + columns[:, None, :]  # [B, H, W]
    chosen = padded.reshape(-1, channels).index_select(0, pixels.flatten().to(x.device))
    # Laid out channel by channel per pixel: the channels_last format, which convolutions like best.
    return chosen.view(count, height, width, channels).permute(0, 3, 1, 2)
