"""`image-folder`: the user's own pictures in a folder or a .zip, one sub-folder a class.

    class/picture.png                                   a test part is split off
    train/class/picture.png, test/class/picture.png

All pictures have one size. They are decoded once to uint8: grey if every picture is grey, colour otherwise.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path, PurePosixPath

import numpy as np
import numpy.typing as npt
import torch

from fedhpro_flwr.data.data_set import DataSet, Split
from fedhpro_flwr.data.hold_out import hold_out
from fedhpro_flwr.data.own import own_normalisation, own_path
from fedhpro_flwr.data.registry import DataSource, data_set

SUFFIXES = frozenset((".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"))
GREY_MODES = frozenset(("1", "L"))

Reader = Callable[[PurePosixPath], bytes]
Picture = npt.NDArray[np.uint8]  # [H, W] grey or [H, W, 3]


@data_set("image-folder")
def image_folder(source: DataSource) -> DataSet:
    """Pictures from the folder or .zip `path`; the classes are its sub-folders by name.

    Raises:
        FileNotFoundError: `path` is missing.
        ValueError: no classes, a class without pictures, a damaged picture, or pictures of several sizes.
    """
    path = own_path(source)
    if path.is_dir():
        return _load(source, path, *_entries_of_folder(path), lambda name: (path / name).read_bytes())
    try:
        with zipfile.ZipFile(path) as archive:
            return _load(source, path, *_entries_of_zip(archive), lambda name: archive.read(str(name)))
    except zipfile.BadZipFile as error:
        raise ValueError(f"{path} is damaged, truncated or no .zip file ({error})") from error


def _entries_of_folder(path: Path) -> tuple[list[PurePosixPath], list[PurePosixPath]]:
    return _files_and_folders(
        (PurePosixPath(entry.relative_to(path).as_posix()), entry.is_dir()) for entry in path.rglob("*")
    )


def _entries_of_zip(archive: zipfile.ZipFile) -> tuple[list[PurePosixPath], list[PurePosixPath]]:
    return _files_and_folders((PurePosixPath(entry.filename), entry.is_dir()) for entry in archive.infolist())


def _files_and_folders(
    entries: Iterable[tuple[PurePosixPath, bool]],
) -> tuple[list[PurePosixPath], list[PurePosixPath]]:
    found = list(entries)
    files = [name for name, is_folder in found if not is_folder]
    return files, [name for name, is_folder in found if is_folder]


def _is_hidden(name: PurePosixPath) -> bool:
    return any(part.startswith(".") or part == "__MACOSX" for part in name.parts)


def _load(
    source: DataSource, path: Path, files: list[PurePosixPath], folders: list[PurePosixPath], read: Reader
) -> DataSet:
    pictures = sorted(name for name in files if name.suffix.lower() in SUFFIXES and not _is_hidden(name))
    classes = {name.parent for name in pictures} | {name for name in folders if not _is_hidden(name)}
    classes -= {parent for name in classes for parent in name.parents}  # keep the innermost folders only
    parts = {folder.parts[:-1] for folder in classes if folder.parts}  # () or ("train",) and ("test",)
    is_flat = classes <= {PurePosixPath("train"), PurePosixPath("test")}  # parts without classes inside
    if is_flat or parts not in ({()}, {("train",), ("test",)}):
        raise ValueError(
            f"{path} has no folders of classes: it needs class/picture.png, "
            "or train/class/picture.png and test/class/picture.png"
        )
    for name in pictures:
        if name.parent not in classes:
            raise ValueError(f"{path}: {name} lies outside of the folders of classes; move or delete it")
    for folder in sorted(classes):
        if not any(name.parent == folder for name in pictures):
            raise ValueError(f"{path}: the class folder {folder} holds no pictures ({', '.join(sorted(SUFFIXES))})")
    class_names = tuple(sorted({folder.name for folder in classes if folder.parts[:-1] != ("test",)}))
    for folder in sorted(classes):
        if folder.name not in class_names:
            raise ValueError(f"{path}: the class {folder} is in the test part alone; add it to train")
    inputs = _decode(path, pictures, read)
    ids = {name: c for c, name in enumerate(class_names)}
    labels = torch.tensor([ids[name.parent.name] for name in pictures], dtype=torch.int64)
    if ("test",) in parts:
        is_test = torch.tensor([name.parts[0] == "test" for name in pictures])
        train, test = Split(inputs[~is_test], labels[~is_test]), Split(inputs[is_test], labels[is_test])
    else:
        held = hold_out(labels.numpy(), source.test_share, source.split_seed)
        train, test = (Split(inputs, labels).subset(torch.from_numpy(part)) for part in held)
    return DataSet("image-folder", train, test, class_names, *own_normalisation(train))


def _decode(path: Path, pictures: list[PurePosixPath], read: Reader) -> torch.Tensor:
    """All pictures as uint8 [N, 1 or 3, H, W]."""
    first = _decode_one(path, pictures[0], read)
    height, width = first.shape[:2]
    pixels = np.empty((len(pictures), 3, height, width), dtype=np.uint8)  # filled in place: data sets can be large
    any_colour = False
    for i, name in enumerate(pictures):
        picture = _decode_one(path, name, read)
        if picture.shape[:2] != (height, width):
            raise ValueError(
                f"{path}: pictures of several sizes, {pictures[0]} has {width}x{height} pixels and "
                f"{name} has {picture.shape[1]}x{picture.shape[0]}; resize them to one size"
            )
        any_colour |= picture.ndim == 3
        pixels[i] = picture.transpose(2, 0, 1) if picture.ndim == 3 else picture
    return torch.from_numpy(pixels if any_colour else pixels[:, :1].copy())


def _decode_one(path: Path, name: PurePosixPath, read: Reader) -> Picture:
    from PIL import Image  # not needed by a client that has its data in another form

    try:
        with Image.open(io.BytesIO(read(name))) as image:
            return np.array(image.convert("L" if image.mode in GREY_MODES else "RGB"), dtype=np.uint8)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ValueError(f"{path}: {name} is damaged, truncated or no picture ({error})") from error
