"""`image-folder`: the user's own pictures in a folder or a .zip, one sub-folder a class.

    class/picture.png                                   a test part is split off
    train/class/picture.png, test/class/picture.png

All pictures have one size, or are resized to `image_size`. They are decoded once to uint8: grey if every picture is
grey, colour otherwise.
"""

from __future__ import annotations

import numpy as np

from fedhpro_flwr.data.class_folders import class_folders, decode_splits
from fedhpro_flwr.data.data_set import DataSet
from fedhpro_flwr.data.hold_out import hold_out
from fedhpro_flwr.data.own import own_normalisation, own_path
from fedhpro_flwr.data.pictures import open_pictures
from fedhpro_flwr.data.registry import DataSource, data_set


@data_set("image-folder", uses=("image_size",))
def image_folder(source: DataSource) -> DataSet:
    """Pictures from the folder or .zip `path`; the classes are its sub-folders by name.

    Raises:
        FileNotFoundError: `path` is missing.
        ValueError: no classes, a class without pictures, a damaged picture, or pictures of several sizes.
    """
    with open_pictures(own_path(source)) as pictures:
        found = class_folders(str(pictures.path), pictures.names, pictures.folders)
        labels, is_test = found.labels(), found.is_test()
        if found.has_test:
            parts = np.flatnonzero(~is_test), np.flatnonzero(is_test)
        else:
            parts = hold_out(labels, source.test_share, source.split_seed)
        train, test = decode_splits(pictures, found.names, labels, parts, image_size=source.image_size)
    return DataSet("image-folder", train, test, found.class_names, *own_normalisation(train))
