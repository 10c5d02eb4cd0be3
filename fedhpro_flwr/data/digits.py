"""`digits`: the 1,797 handwritten digits of 8x8 pixels that come with scikit-learn; nothing to download."""

from __future__ import annotations

import gzip
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from fedhpro_flwr.data.data_set import DataSet, Split
from fedhpro_flwr.data.hold_out import hold_out
from fedhpro_flwr.data.registry import DataSource, data_set

DIGITS = tuple("0123456789")  # the classes of every set of digits


@data_set("digits", uses=())
def digits(source: DataSource) -> DataSet:
    """The digits as uint8 images [N, 1, 8, 8]; `test_share` and `split_seed` split the test part off."""
    pixels, labels = read_digits()
    images = torch.from_numpy(np.rint(pixels * 255 / 16).astype(np.uint8)).view(-1, 1, 8, 8)
    whole = Split(images, torch.from_numpy(labels))
    train, test = map(whole.subset, hold_out(labels, source.test_share, source.split_seed))
    # Mean and std of all 1,797 images scaled to [0, 1]: published constants, not statistics of a client.
    return DataSet("digits", train, test, DIGITS, mean=(0.3053,), std=(0.3759,))


def read_digits() -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """Pixels [1797, 64], whole numbers 0..16, and labels [1797], as `sklearn.datasets.load_digits` gives them.

    They are read from scikit-learn's file without importing scikit-learn, which would take ten times as long as the
    rest: a deployed client is a new process for each message.
    """
    package = find_spec("sklearn")
    file = Path(package.origin or "").parent / "datasets" / "data" / "digits.csv.gz" if package else Path()
    if not file.is_file():  # this release of scikit-learn keeps it elsewhere, or none is installed
        from sklearn.datasets import load_digits

        pixels, labels = load_digits(return_X_y=True)
        return pixels, labels.astype(np.int64)
    with gzip.open(file, "rt", encoding="ascii") as lines:
        table = np.loadtxt(lines, delimiter=",")  # [1797, 65]
    return table[:, :-1], table[:, -1].astype(np.int64)
