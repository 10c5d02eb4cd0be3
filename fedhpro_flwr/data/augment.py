"""Turns batches of images into normalised floats, and crops and flips them at random, on the batch's device.

The reference draws one crop and one flip for the whole batch (`per-batch`); more common is a draw for each
image (`per-sample`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F


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


def crop_and_flip_alike(x: Tensor, *, padding: int = 4, flip: bool = True, generator: torch.Generator) -> Tensor:
    """Pad with zeros, crop the same random window of every image of a batch, mirror all of them with probability 1/2.

    Zeros after normalisation are the mean colour. Row and column of the window are uniform in 0..2*padding.

    Args:
        x: normalised images [B, ch, H, W].
        padding: pixels on each side.
        flip: whether to mirror.
        generator: on the CPU, so that the draws do not depend on the device.

    Returns:
        Images [B, ch, H, W] on the device of `x`, laid out as they are.
    """
    height, width = x.shape[-2:]
    row = int(torch.randint(2 * padding + 1, (), generator=generator))
    column = int(torch.randint(2 * padding + 1, (), generator=generator))
    mirrored = flip and float(torch.rand((), generator=generator)) < 0.5
    padded = F.pad(x, (padding, padding, padding, padding))
    window = padded[:, :, row : row + height, column : column + width]
    return window.flip(-1) if mirrored else window.clone()  # either way no view of `padded`


@dataclass(frozen=True, eq=False)
class Crops:
    """As `crop_and_flip_alike`, but with a window of its own for each image of a batch or an epoch: where the window
    begins, and whether it is read backwards.
    """

    rows: Tensor  # [n, 1] int64, of the padded image
    columns: Tensor  # [n, 1] int64
    mirrored: Tensor | None  # [n, 1] bool; None mirrors none
    padding: int

    @classmethod
    def draw(cls, count: int, *, padding: int = 4, flip: bool = True, generator: torch.Generator) -> Crops:
        """Draw for `count` images; `generator` is on the CPU, and the draws stay there until `to` moves them."""
        rows = torch.randint(2 * padding + 1, (count, 1), generator=generator)
        columns = torch.randint(2 * padding + 1, (count, 1), generator=generator)
        return cls(rows, columns, torch.rand(count, 1, generator=generator) < 0.5 if flip else None, padding)

    @classmethod
    def joined(cls, parts: Sequence[Crops]) -> Crops:
        """The crops of several batches, all drawn with the same options, as one; the inverse of `split`."""
        mirrored = [part.mirrored for part in parts if part.mirrored is not None]
        rows, columns = torch.cat([part.rows for part in parts]), torch.cat([part.columns for part in parts])
        return cls(rows, columns, torch.cat(mirrored) if mirrored else None, parts[0].padding)

    def split(self, batch_size: int) -> Iterator[Crops]:
        """The crops batch by batch; the last batch is smaller if `batch_size` does not divide their number."""
        for start in range(0, len(self.rows), batch_size):
            batch = slice(start, start + batch_size)
            mirrored = None if self.mirrored is None else self.mirrored[batch]
            yield Crops(self.rows[batch], self.columns[batch], mirrored, self.padding)

    def to(self, device: torch.device) -> Crops:
        """The same on a device."""
        mirrored = None if self.mirrored is None else self.mirrored.to(device)
        return Crops(self.rows.to(device), self.columns.to(device), mirrored, self.padding)

    def cut(self, x: Tensor) -> Tensor:
        """Cut the windows [n, ch, H, W] out of the images x [n, ch, H, W], which are on the device of the draws."""
        count, channels, height, width = x.shape
        rows = self.rows + torch.arange(height, device=x.device)  # [n, H]
        columns = self.columns + torch.arange(width, device=x.device)  # [n, W]
        if self.mirrored is not None:
            # Reading backwards is the flip: no second pass.
            columns = torch.where(self.mirrored, columns.flip(1), columns)
        margin = self.padding
        padded = F.pad(x, (margin, margin, margin, margin)).permute(0, 2, 3, 1)  # [n, H+2p, W+2p, ch]
        images = torch.arange(count, device=x.device).view(-1, 1, 1)
        pixels = (images * padded.shape[1] + rows[:, :, None]) * padded.shape[2] + columns[:, None, :]  # [n, H, W]
        chosen = padded.reshape(-1, channels).index_select(0, pixels.flatten())
        # Laid out channel by channel per pixel: the channels_last format, which convolutions like best.
        return chosen.view(count, height, width, channels).permute(0, 3, 1, 2)
