"""The MATLAB files of SVHN and of the Synthetic Digits: X [32, 32, 3, N] of bytes and y [N, 1]."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from fedhpro_flwr.data.data_set import Split

SIDE = 32  # pixels
CHUNK = 4096  # images transposed at a time


def read_digit_mat(file: Path, remedy: str = "put the original file there") -> Split:
    """Read X and y into images [N, 3, 32, 32] and labels 0..9; the label 10 is the digit 0, as in SVHN.

    The Synthetic Digits fill 1.5 GB, so the images are transposed in place, without a second copy.

    Args:
        file: to be read.
        remedy: what to do if it is damaged, for the message.

    Raises:
        ValueError: the file is damaged, lacks X or y, or they have another type, shape or range.
    """
    from scipy.io import loadmat  # slow to import

    try:
        arrays = loadmat(file, variable_names=("X", "y"))
    except Exception as error:  # damaged bytes lead scipy's reader to any kind of error
        raise ValueError(f"{file} is damaged, truncated or no MATLAB file ({error}); {remedy}") from error
    if not {"X", "y"} <= arrays.keys():
        raise ValueError(f"{file} lacks X or y: it needs X [{SIDE}, {SIDE}, 3, N] and y [N, 1]")
    x, y = arrays["X"], arrays["y"]
    if x.dtype != np.uint8 or x.ndim != 4 or x.shape[:3] != (SIDE, SIDE, 3) or y.size != x.shape[3]:
        raise ValueError(
            f"{file} needs X uint8 [{SIDE}, {SIDE}, 3, N] and y [N, 1], "
            f"got {x.dtype} {list(x.shape)} and {list(y.shape)}"
        )
    labels = y.astype(np.int64).reshape(-1)
    if len(labels) == 0 or labels.min() < 0 or labels.max() > 10:
        raise ValueError(f"{file} needs one label in 0..10 for each image")
    labels[labels == 10] = 0
    # MATLAB stores the first index fastest: in memory the images are [N, 3, W, H] already.
    images = np.require(x.transpose(3, 2, 1, 0), requirements=("C", "W"))
    for start in range(0, len(images), CHUNK):
        chunk = images[start : start + CHUNK]
        chunk[:] = chunk.swapaxes(2, 3).copy()
    return Split(torch.from_numpy(images), torch.from_numpy(labels))
