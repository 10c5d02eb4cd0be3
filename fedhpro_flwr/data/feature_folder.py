"""`feature-folder`: the user's own pictures, seen through a frozen pretrained encoder.

The layout is that of `image-folder`; samples are the features [N, F] that the encoder `weights` has of the pictures.
Train them with the model `projection`.
"""

from __future__ import annotations

import numpy as np
import torch

from fedhpro_flwr.data.class_folders import class_folders
from fedhpro_flwr.data.data_set import DataSet, Split
from fedhpro_flwr.data.frozen_encoder import weights_path
from fedhpro_flwr.data.hold_out import hold_out
from fedhpro_flwr.data.own import own_path
from fedhpro_flwr.data.picture_features import picture_features
from fedhpro_flwr.data.pictures import open_pictures
from fedhpro_flwr.data.registry import DataSource, data_set


@data_set("feature-folder", uses=("weights",))
def feature_folder(source: DataSource) -> DataSet:
    """Features of the pictures in the folder or .zip `path`, by the encoder in `weights`, as they are.

    Raises:
        FileNotFoundError: `path` or `weights` is missing.
        ValueError: no classes, a class without pictures, a damaged picture, or weights that cannot be used.
    """
    weights = weights_path(source.name, source.weights)
    with open_pictures(own_path(source)) as pictures:
        found = class_folders(str(pictures.path), pictures.names, pictures.folders)
        labels, is_test = found.labels(), found.is_test()
        if found.has_test:
            parts = np.flatnonzero(~is_test), np.flatnonzero(is_test)
        else:
            parts = hold_out(labels, source.test_share, source.split_seed)
        samples = Split(picture_features(pictures, found.names, weights), torch.from_numpy(labels))
    train, test = (samples.subset(torch.from_numpy(part)) for part in parts)
    return DataSet("feature-folder", train, test, found.class_names)
