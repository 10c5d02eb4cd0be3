"""`usps`: the postal digits of Hull (1994), from the two LIBSVM files that torchvision's USPS reads.

The text is read here and no md5 sum is checked: a rebuilt file of the same layout will do. Reading it takes seconds,
which a deployed client would spend in every message, so the result is kept in the user's cache folder.
"""

from __future__ import annotations

import bz2
import hashlib
import io
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from fedhpro_flwr.data.data_set import DataSet, Split
from fedhpro_flwr.data.digits import DIGITS
from fedhpro_flwr.data.kept_tensor import kept_tensor
from fedhpro_flwr.data.public_files import DOWNLOAD, DOWNLOAD_AGAIN, fetch_missing, public_files
from fedhpro_flwr.data.registry import DataSource, data_set

FOLDER = "USPS"
FILES = ("usps.bz2", "usps.t.bz2")
SIDE = 16  # pixels
RECIPE = b"usps pixels and label, 1"  # to be raised when `read_libsvm` changes: it makes all that is kept invalid


@data_set("usps", uses=())
def usps(source: DataSource) -> DataSet:
    """7,291 + 2,007 grey digits of 16x16 pixels, [N, 1, 16, 16], from `root`/USPS or `root`.

    Raises:
        FileNotFoundError: a file is missing and `download` is off, or cannot be fetched.
        ValueError: a file is damaged.
    """
    if source.download:
        fetch_missing(source, FOLDER, "USPS")
    train, test = (_split(file) for file in public_files(source, FOLDER, FILES, DOWNLOAD))
    # mean and std of the training images
    return DataSet("usps", train, test, DIGITS, mean=(0.2465,), std=(0.2996,))


def _split(file: Path) -> Split:
    def read() -> Tensor:
        split = read_libsvm(file)
        return torch.cat([split.inputs.flatten(1), split.labels[:, None].to(torch.uint8)], dim=1)

    table = kept_tensor(None, hashlib.sha256(RECIPE + file.read_bytes()).hexdigest(), read)  # [N, 257] uint8
    return Split(table[:, :-1].reshape(-1, 1, SIDE, SIDE), table[:, -1].long())


def read_libsvm(file: Path) -> Split:
    """Read `label 1:x 2:x ... 256:x` a line, labels 1..10 for the digits 0..9, x in [-1, 1].

    Pixels become (x + 1) / 2 * 255, cut off to whole numbers as torchvision does.

    Raises:
        ValueError: the file is damaged, or its lines are not of that layout.
    """
    try:
        text = bz2.decompress(file.read_bytes()).decode("ascii")
    except (OSError, ValueError) as error:
        raise ValueError(f"{file} is damaged or truncated ({error}); {DOWNLOAD_AGAIN}") from error
    pixels = SIDE * SIDE
    layout = f"lines of a label and {pixels} pixels, 'label 1:x 2:x ... {pixels}:x'"
    if not text.strip():
        raise ValueError(f"{file} is empty; it needs {layout}")
    try:
        table = np.loadtxt(io.StringIO(text.replace(":", " ")), dtype=np.float32, comments=None, ndmin=2)
    except ValueError as error:
        raise ValueError(f"{file} needs {layout} ({error})") from error
    labels, places, values = table[:, 0], table[:, 1::2], table[:, 2::2]
    if table.shape[1] != 1 + 2 * pixels or not (places == np.arange(1, pixels + 1)).all():
        raise ValueError(f"{file} needs {layout}")
    if not (np.isin(labels, np.arange(1, 11)).all() and (np.abs(values) <= 1).all()):
        raise ValueError(f"{file} needs labels in 1..10 and pixels in [-1, 1]")
    images = ((values + 1) / 2 * 255).astype(np.uint8).reshape(-1, 1, SIDE, SIDE)
    return Split(torch.from_numpy(images), torch.from_numpy(labels.astype(np.int64) - 1))
