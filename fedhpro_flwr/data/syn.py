"""`syn`: the Synthetic Digits of Ganin and Lempitsky (2015), rendered from fonts in SVHN's manner.

root/SYN/synth_train_32x32.mat, synth_test_32x32.mat         the original files
root/syn/train/<digit>/*.png, root/syn/val/<digit>/*.png     what public code for the four digit domains reads
"""

from __future__ import annotations

from pathlib import Path

import torch

from fedhpro_flwr.data.class_folders import class_folders
from fedhpro_flwr.data.data_set import DataSet, Split
from fedhpro_flwr.data.digit_mat import SIDE, read_digit_mat
from fedhpro_flwr.data.digits import DIGITS
from fedhpro_flwr.data.pictures import decode, open_pictures
from fedhpro_flwr.data.public_files import find_file, public_files
from fedhpro_flwr.data.registry import DataSource, data_set
from fedhpro_flwr.listed import ten_of

FILES = ("synth_train_32x32.mat", "synth_test_32x32.mat")
PICTURES, PARTS = "syn", ("train", "val")


@data_set("syn", uses=())
def syn(source: DataSource) -> DataSet:
    """Colour digits of 32x32 pixels, [N, 3, 32, 32]: 479,400 + 9,553 from the .mat files in `root`/SYN or `root`.

    If one of these is missing, the pictures in the folders `root`/syn/train and val are read, however many there are,
    and resized if they have another size.

    Raises:
        FileNotFoundError: neither is there; it cannot be downloaded.
        ValueError: a file is damaged, or the folders are not those of the ten digits.
    """
    root = source.folder()
    folders = [root / PICTURES / part for part in PARTS]
    if all(find_file(root, "SYN", name) for name in FILES) or not all(folder.is_dir() for folder in folders):
        advice = (
            f"or pictures into {' and '.join(str(folder / '<digit>') for folder in folders)}; data.download cannot "
            "fetch it; 'syn-rendered' makes similar digits and needs no file"
        )
        files = public_files(source, "SYN", FILES, advice)
        train, test = (read_digit_mat(file) for file in files)
    else:
        train, test = (_read_folder(folder) for folder in folders)
    return DataSet("syn", train, test, DIGITS, (0.5,) * 3, (0.5,) * 3)


def _read_folder(folder: Path) -> Split:
    with open_pictures(folder) as pictures:
        found = class_folders(str(folder), pictures.names, pictures.folders)
        if found.class_names != DIGITS or found.has_test:
            raise ValueError(f"{folder} has the class folders {ten_of(found.class_names)}; it needs 0 to 9")
        images = decode(pictures, found.names, image_size=SIDE, colour=True)
    return Split(images, torch.from_numpy(found.labels()))
