"""Turns batches of images into normalised floats, and crops and flips them at random, on the batch's device.

The reference draws one crop and one flip for the whole batch (`per-batch`); more common is a draw for each
image (`per-sample`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

PADDING = 4  # black pixels on each side of an image, from which a window of the image's size is cut
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # also of published protocols for digits


def to_float(inputs: Tensor, mean: Sequence[float] | Tensor, std: Sequence[float] | Tensor) -> Tensor:
    """Normalise a batch: uint8 is scaled to [0, 1] first, then (x - mean) / std per channel.

    Args:
        inputs: uint8 or float32 images [B, ch, H, W], or float32 vectors [B, F].
        mean, std: ch numbers each, or one for vectors. They are sent to the device of `inputs` for every batch, unless
            they are float32 tensors on it already.

    Returns:
        float32 of the shape of `inputs`; `inputs` stays as it is.
    """
    x = inputs.float().div(255) if inputs.dtype == torch.uint8 else inputs
    shape = (-1, 1, 1) if inputs.ndim == 4 else (-1,)
    center = torch.as_tensor(mean, dtype=torch.float32, device=x.device).view(shape)
    scale = torch.as_tensor(std, dtype=torch.float32, device=x.device).view(shape)
    return (x - center).div_(scale)


def crop_and_flip_alike(x: Tensor, *, flip: bool = True, generator: torch.Generator) -> Tensor:
    """Pad with zeros, crop the same random window of every image of a batch, mirror all of them with probability 1/2.

    Zeros after normalisation are the mean colour. Row and column of the window are uniform in 0..2*PADDING.

    Args:
        x: normalised images [B, ch, H, W].
        flip: whether to mirror.
        generator: on the CPU, so that the draws do not depend on the device.

    Returns:
        Images [B, ch, H, W] on the device of `x`, laid out as they are.
    """
    height, width = x.shape[-2:]
    row = int(torch.randint(2 * PADDING + 1, (), generator=generator))
    column = int(torch.randint(2 * PADDING + 1, (), generator=generator))
    mirrored = flip and float(torch.rand((), generator=generator)) < 0.5
    padded = F.pad(x, [PADDING] * 4)
    window = padded[:, :, row : row + height, column : column + width]
    return window.flip(-1) if mirrored else window.clone()  # either way no view of `padded`


class Crops(NamedTuple):
    """As `crop_and_flip_alike`, but with a window of its own for each image of a batch or an epoch: where the window
    begins, and whether it is read backwards.
    """

    rows: Tensor  # [n, 1] int64, of the padded image
    columns: Tensor  # [n, 1] int64
    mirrored: Tensor  # [n, 1] bool

    @classmethod
    def draw(cls, count: int, *, flip: bool = True, generator: torch.Generator) -> Crops:
        """Draw for `count` images; `generator` is on the CPU, and the draws stay there until `to` moves them."""
        rows = torch.randint(2 * PADDING + 1, (count, 1), generator=generator)
        columns = torch.randint(2 * PADDING + 1, (count, 1), generator=generator)
        mirrored = torch.rand(count, 1, generator=generator) < 0.5 if flip else torch.zeros(count, 1, dtype=torch.bool)
        return cls(rows, columns, mirrored)

    @classmethod
    def joined(cls, parts: Sequence[Crops]) -> Crops:
        """The crops of several batches as one; the inverse of `split`."""
        return cls(*(torch.cat(draws) for draws in zip(*parts, strict=True)))

    def split(self, batch_size: int) -> Iterator[Crops]:
        """The crops batch by batch; the last batch is smaller if `batch_size` does not divide their number."""
        return (Crops(*batch) for batch in zip(*(torch.split(draws, batch_size) for draws in self), strict=True))

    def to(self, device: torch.device) -> Crops:
        """The same on a device."""
        return Crops(*(draws.to(device) for draws in self))

    def cut(self, x: Tensor) -> Tensor:
        """Cut the windows [n, ch, H, W] out of the images x [n, ch, H, W], which are on the device of the draws."""
        count, channels, height, width = x.shape
        rows = self.rows + torch.arange(height, device=x.device)  # [n, H]
        columns = self.columns + torch.arange(width, device=x.device)  # [n, W]
        columns = torch.where(self.mirrored, columns.flip(1), columns)  # reading backwards is the flip: no second pass
        padded = F.pad(x, [PADDING] * 4).permute(0, 2, 3, 1)  # [n, H+8, W+8, ch]
        images = torch.arange(count, device=x.device).view(-1, 1, 1)
        pixels = (images * padded.shape[1] + rows[:, :, None]) * padded.shape[2] + columns[:, None, :]  # [n, H, W]
        chosen = padded.reshape(-1, channels).index_select(0, pixels.flatten())
        # Laid out channel by channel per pixel: the channels_last format, which convolutions like best.
        return chosen.view(count, height, width, channels).permute(0, 3, 1, 2)
