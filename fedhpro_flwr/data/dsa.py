"""Differentiable siamese augmentation (DSA), the reference's augmentation for class gradients.

One of six transforms with one set of parameters is applied to all images of a class, so the mean gradient of
the class is that of one consistent view. Images are normalised floats [n, ch, h, w].
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

STRATEGIES = ("color", "crop", "cutout", "flip", "scale", "rotate")
CROP_SHARE = 0.125  # of the height: the largest shift
CUTOUT_SHARE = 0.5  # of the height: side of the square
SCALE_RATIO = 1.2  # scale factors lie in [1/1.2, 1.2]
MAX_DEGREES = 15.0


def color(x: Tensor, *, brightness: float, saturation: float, contrast: float) -> Tensor:
    """Shift by u1 - 1/2, scale around the grey value by 2 u2, then around the image mean by u3 + 1/2.

    Args:
        x: images [n, ch, h, w].
        brightness, saturation, contrast: u1, u2, u3 in [0, 1).
    """
    x = x + (brightness - 0.5)
    grey = x.mean(dim=1, keepdim=True)  # [n, 1, h, w]
    x = (x - grey) * (saturation * 2) + grey
    mean = x.mean(dim=(1, 2, 3), keepdim=True)  # [n, 1, 1, 1]
    return (x - mean) * (contrast + 0.5) + mean


def crop(x: Tensor, *, rows: int, columns: int) -> Tensor:
    """Move the window: out[r, c] = x[r + rows, c + columns], zero outside of the image."""
    height, width = x.shape[-2:]
    return F.pad(x, (-columns, columns, -rows, rows))[:, :, :height, :width]


def cutout(x: Tensor, *, row: int, column: int, size: int) -> Tensor:
    """Set a square of `size` pixels around (row, column) to zero, clipped at the border of the image.

    Rows and columns of the square that lie outside of the image are moved onto its border.
    """
    height, width = x.shape[-2:]
    steps = torch.arange(size, device=x.device) - size // 2
    keep = torch.ones(height, width, dtype=x.dtype, device=x.device)
    keep[(row + steps).clamp(0, height - 1)[:, None], (column + steps).clamp(0, width - 1)] = 0
    return x * keep


def flip(x: Tensor, *, u: float) -> Tensor:
    """Mirror the width if u < 1/2."""
    return x.flip(3) if u < 0.5 else x


def scale(x: Tensor, *, across: float, down: float) -> Tensor:
    """Sample at coordinates times `across` (the width) and `down` (the height), bilinear, zero outside."""
    return _sample(x, ((across, 0.0, 0.0), (0.0, down, 0.0)))


def rotate(x: Tensor, *, theta: float) -> Tensor:
    """Sample at coordinates turned by `theta` radians, bilinear, zero outside."""
    return _sample(x, ((math.cos(theta), -math.sin(theta), 0.0), (math.sin(theta), math.cos(theta), 0.0)))


def _sample(x: Tensor, affine: tuple[tuple[float, ...], ...]) -> Tensor:
    matrix = torch.tensor(affine, dtype=x.dtype, device=x.device).expand(len(x), 2, 3)
    grid = F.affine_grid(matrix, list(x.shape), align_corners=False)
    return F.grid_sample(x, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def dsa(x: Tensor, generator: torch.Generator) -> Tensor:
    """Draw one transform and its parameters, and apply it to all images.

    Args:
        x: normalised images [n, ch, h, w].
        generator: on the CPU, so that the draws do not depend on the device.

    Returns:
        Images of the same shape.

    Raises:
        ValueError: `x` is no batch of images.
    """
    if x.ndim != 4:
        raise ValueError(f"dsa needs images [n, ch, h, w], got {list(x.shape)}")
    height, width = x.shape[-2:]

    def integer(low: int, high: int) -> int:  # both ends included
        return int(torch.randint(low, high + 1, (), generator=generator))

    def uniform() -> float:
        return float(torch.rand((), generator=generator))

    match STRATEGIES[integer(0, len(STRATEGIES) - 1)]:
        case "color":
            return color(x, brightness=uniform(), saturation=uniform(), contrast=uniform())
        case "crop":
            # Half a pixel is added before truncation, so that the shift of small images is rounded.
            reach_rows, reach_columns = int(height * CROP_SHARE + 0.5), int(width * CROP_SHARE + 0.5)
            return crop(x, rows=integer(-reach_rows, reach_rows), columns=integer(-reach_columns, reach_columns))
        case "cutout":
            size = int(height * CUTOUT_SHARE + 0.5)
            return cutout(x, row=integer(0, height - size % 2), column=integer(0, width - size % 2), size=size)
        case "flip":
            return flip(x, u=uniform())
        case "scale":
            low = 1 / SCALE_RATIO
            across, down = (low + uniform() * (SCALE_RATIO - low) for _ in range(2))
            return scale(x, across=across, down=down)
        case _:
            return rotate(x, theta=(uniform() - 0.5) * 2 * math.radians(MAX_DEGREES))
