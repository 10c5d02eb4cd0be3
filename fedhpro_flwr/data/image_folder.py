"""`image-folder`: the user's own pictures in a folder or a .zip, one sub-folder a class.

    class/picture.png                                   a test part is split off
    train/class/picture.png, test/class/picture.png

All pictures have one size, or are resized to `image_size`. They are decoded once to uint8, and the pixels are kept
beside the folder: grey if every picture is grey, but in colour if one is not or `input_shape` declares three channels.
"""

from __future__ import annotations

from fedhpro_flwr.data.class_folders import class_folders
from fedhpro_flwr.data.declared import declared_classes, declared_shape
from fedhpro_flwr.data.kept_tensor import kept_tensor
from fedhpro_flwr.data.own_format import OwnSamples, own_format, own_path
from fedhpro_flwr.data.picture_features import files_key
from fedhpro_flwr.data.pictures import decode, open_pictures
from fedhpro_flwr.data.registry import DataSource

RECIPE = "decoded pictures, 3"  # to be raised when `decode` changes: it makes all that is kept invalid


@own_format("image-folder", suffix=".zip", uses=("image_size",))
def image_folder(source: DataSource) -> OwnSamples:
    """Pictures from the folder or .zip `path`; the classes are its sub-folders by name, or those `classes` declares.

    Raises:
        FileNotFoundError: `path` is missing.
        ValueError: no classes, a class without pictures or an undeclared one, a damaged picture, or pictures of several
            sizes.
    """
    with open_pictures(own_path(source)) as pictures:
        pictures.tell_left_out()
        found = class_folders(str(pictures.path), pictures.names, pictures.folders, declared_classes(source.classes))
        size, colour = source.image_size, declared_shape(source.input_shape)[:1] == (3,)
        key = files_key(RECIPE, pictures, found.names, ("pillow",), f"{size} {colour}")
        pixels = kept_tensor(
            pictures.path.parent,
            key,
            lambda: decode(pictures, found.names, image_size=size, colour=colour),
            of=pictures.path,
        )
    return found.samples(pixels)
