"""`mnist-m`: MNIST's digits blended into photographs (Ganin and Lempitsky 2015)."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

import torch

from fedhpro_flwr.data.data_set import DataSet, Split
from fedhpro_flwr.data.digits import DIGITS
from fedhpro_flwr.data.npz import read_npz
from fedhpro_flwr.data.pictures import decode, unlisted
from fedhpro_flwr.data.public_files import public_files
from fedhpro_flwr.data.registry import DataSource, data_set

FOLDER = "mnist_m"  # as the original archive unpacks
SUBSET = "mnistm_train0-9999_test0-1999.npz"
SIDE = 32  # pixels


@data_set("mnist-m", uses=())
def mnist_m(source: DataSource) -> DataSet:
    """Colour digits of 32x32 pixels, [N, 3, 32, 32]: all 59,001 + 9,001, or the first 10,000 + 2,000 of them.

    All of them if `root` has the unpacked folder mnist_m:

        mnist_m/mnist_m_train/00000000.png ..., mnist_m/mnist_m_train_labels.txt with a line `00000000.png 5` for each
        mnist_m/mnist_m_test/00000000.png  ..., mnist_m/mnist_m_test_labels.txt

    Otherwise the first of each part, exact pixels, from mnistm_train0-9999_test0-1999.npz in `root`/MNISTM or `root`.

    Raises:
        FileNotFoundError: neither is there, or a file of the folder is missing.
        ValueError: a file is damaged.
    """
    folder = source.folder() / FOLDER
    test: Split | None
    if folder.is_dir():
        train, test = _read_folder(folder, "train"), _read_folder(folder, "test")
    else:
        advice = f"data.download cannot fetch it; or unpack mnist_m.tar.gz to {folder}"
        (file,) = public_files(source, "MNISTM", (SUBSET,), advice)
        train, test = read_npz(file)
        if test is None:
            raise ValueError(f"{file} has no test part: x_test and y_test are needed")
    # mean and std of the first 10,000 training images
    return DataSet("mnist-m", train, test, DIGITS, mean=(0.4585, 0.4621, 0.4077), std=(0.2504, 0.2347, 0.2571))


def _read_folder(folder: Path, part: str) -> Split:
    listing = folder / f"mnist_m_{part}_labels.txt"
    pictures = folder / f"mnist_m_{part}"
    for place in (listing, pictures):
        if not place.exists():
            raise FileNotFoundError(f"data set 'mnist-m': {place} is missing; unpack mnist_m.tar.gz again")
    names: list[PurePosixPath] = []
    labels: list[int] = []
    for number, line in enumerate(listing.read_text().splitlines(), start=1):
        name, _, label = line.strip().partition(" ")
        if label not in DIGITS:
            raise ValueError(f"{listing}, line {number}: {line!r} is not a picture and its digit, '00000000.png 5'")
        names.append(PurePosixPath(name))
        labels.append(int(label))
    if not names:
        raise ValueError(f"{listing} is empty; unpack mnist_m.tar.gz again")
    images = decode(unlisted(pictures), names, colour=True)
    if images.shape[2:] != (SIDE, SIDE):
        raise ValueError(f"{pictures}: the pictures need {SIDE}x{SIDE} pixels, they have {list(images.shape[2:])}")
    return Split(images, torch.tensor(labels, dtype=torch.int64))
