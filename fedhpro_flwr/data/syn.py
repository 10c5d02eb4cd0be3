"""`syn`: the Synthetic Digits of Ganin and Lempitsky (2015), rendered from fonts in SVHN's manner."""

from __future__ import annotations

from fedhpro_flwr.data.data_set import DataSet
from fedhpro_flwr.data.digit_mat import read_digit_mat
from fedhpro_flwr.data.public_files import public_files
from fedhpro_flwr.data.registry import DataSource, data_set

FILES = ("synth_train_32x32.mat", "synth_test_32x32.mat")


@data_set("syn")
def syn(source: DataSource) -> DataSet:
    """479,400 + 9,553 colour digits of 32x32 pixels, [N, 3, 32, 32], from `root`/SYN or `root`.

    Raises:
        FileNotFoundError: a file is missing; no address fetches it.
        ValueError: a file is damaged.
    """
    advice = "data.download cannot fetch it; 'syn-rendered' makes similar digits and needs no file"
    train, test = (read_digit_mat(file) for file in public_files(source, "SYN", FILES, advice))
    return DataSet("syn", train, test, tuple("0123456789"), (0.5,) * 3, (0.5,) * 3)
