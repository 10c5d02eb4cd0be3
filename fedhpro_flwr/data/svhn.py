"""`svhn` and `svhn-part`: house numbers cut to one digit (Netzer et al. 2011), and a small part of them."""

from __future__ import annotations

from fedhpro_flwr.data.data_set import DataSet
from fedhpro_flwr.data.digit_mat import read_digit_mat
from fedhpro_flwr.data.digits import DIGITS
from fedhpro_flwr.data.npz import read_npz
from fedhpro_flwr.data.public_files import DOWNLOAD, DOWNLOAD_AGAIN, fetch_missing, public_files
from fedhpro_flwr.data.registry import DataSource, data_set

FOLDER = "SVHN"
FILES = ("train_32x32.mat", "test_32x32.mat")
PART_FILES = ("svhn_train_first1083_exact.npz", "svhn_test_crops_a243_from_fullnumbers.npz")
MEAN, STD = (0.4377, 0.4438, 0.4728), (0.1980, 0.2010, 0.1970)  # of the training images


@data_set("svhn", uses=())
def svhn(source: DataSource) -> DataSet:
    """73,257 + 26,032 colour digits of 32x32 pixels, [N, 3, 32, 32], from `root`/SVHN or `root`.

    The original cropped digits; the 531,131 extra ones are not used. The label 10 of the files is the digit 0.

    Raises:
        FileNotFoundError: a file is missing and `download` is off, or cannot be fetched.
        ValueError: a file is damaged.
    """
    if source.download:
        fetch_missing(source, FOLDER, "SVHN")
    advice = f"{DOWNLOAD}; 'svhn-part' is a small part of it"
    train, test = (read_digit_mat(file, DOWNLOAD_AGAIN) for file in public_files(source, FOLDER, FILES, advice))
    return DataSet("svhn", train, test, DIGITS, MEAN, STD)


@data_set("svhn-part", uses=())
def svhn_part(source: DataSource) -> DataSet:
    """1,083 + 243 colour digits of 32x32 pixels, for trials without the whole set: no substitute for `svhn`.

    The training images are the first 1,083 of train_32x32.mat, exact pixels. The test images are digits cut out of
    photographs of SVHN's test part (square box, bicubic to 32x32): the same digits as in test_32x32.mat, but not
    the same pixels, so an accuracy on them is no accuracy on SVHN. Two files, with `images` [N, 32, 32, 3] and
    `labels` [N], from `root`/SVHN or `root`.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: a file is damaged.
    """
    files = public_files(source, FOLDER, PART_FILES, "data.download cannot fetch it; 'svhn' is the whole set")
    (train, _), (test, _) = (read_npz(file) for file in files)
    return DataSet("svhn-part", train, test, DIGITS, MEAN, STD)
