"""`feature-folder`: the user's own pictures, seen through a frozen pretrained encoder.

The layout is that of `image-folder`; samples are the features [N, F] that the encoder in `weights` computes from the
pictures. The model `projection` is made for them.
"""

from __future__ import annotations

from fedhpro_flwr.data.class_folders import class_folders
from fedhpro_flwr.data.declared import declared_classes
from fedhpro_flwr.data.frozen_encoder import weights_path
from fedhpro_flwr.data.own_format import OwnSamples, own_format, own_path
from fedhpro_flwr.data.picture_features import picture_features
from fedhpro_flwr.data.pictures import open_pictures
from fedhpro_flwr.data.registry import DataSource


@own_format("feature-folder", suffix=".zip", uses=("weights",))
def feature_folder(source: DataSource) -> OwnSamples:
    """Features of the pictures in the folder or .zip `path`, by the encoder in `weights`: see `picture_features`.

    Raises:
        FileNotFoundError: `path` or `weights` is missing.
        ValueError: no classes, a class without pictures or an undeclared one, a damaged picture, or weights that cannot
            be used.
    """
    weights = weights_path(source.name, source.weights)
    with open_pictures(own_path(source)) as pictures:
        pictures.tell_left_out()
        found = class_folders(str(pictures.path), pictures.names, pictures.folders, declared_classes(source.classes))
        return found.samples(picture_features(pictures, found.names, weights))
