"""`ham10000`: 10,015 dermatoscopic pictures of seven kinds of skin lesions (Tschandl et al., Scientific Data 2018).

    HAM10000_metadata.csv, HAM10000_images_part_1/*.jpg, HAM10000_images_part_2/*.jpg     the pictures
    hmnist_28_28_RGB.csv, hmnist_28_28_L.csv, hmnist_8_8_RGB.csv, hmnist_8_8_L.csv        their pixels, much reduced

A lesion has one to six pictures, which look alike. The pictures are therefore split by lesion. The files of pixels do
not say which lesion a row is of: they can only be split by class, and accuracies on them are somewhat optimistic.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import isqrt
from pathlib import Path, PurePosixPath

import numpy as np
import numpy.typing as npt
import torch

from fedhpro_flwr.data.class_folders import decode_splits
from fedhpro_flwr.data.csv_rows import Row, csv_rows
from fedhpro_flwr.data.data_set import DataSet, IndexArray, Split
from fedhpro_flwr.data.hold_out import hold_out
from fedhpro_flwr.data.own_format import own_path
from fedhpro_flwr.data.pictures import unlisted
from fedhpro_flwr.data.registry import DataSource, data_set

# In the order of the labels of the hmnist files: their class counts 327, 514, 1099, 115, 6705, 142, 1113 are those of
# these diagnoses in the metadata.
CLASSES = ("akiec", "bcc", "bkl", "df", "nv", "vasc", "mel")
METADATA = "HAM10000_metadata.csv"
COLUMNS = ("lesion_id", "image_id", "dx")
PIXEL_FILES = ("hmnist_28_28_RGB.csv", "hmnist_28_28_L.csv", "hmnist_8_8_RGB.csv", "hmnist_8_8_L.csv")
PLACES = ("HAM10000", "medical", "")  # folders of the root where the files of pixels are looked for
DEFAULT_SIZE = 32
# Of all pictures scaled to [0, 1]: published constants (colour), and those of hmnist_8_8_L.csv (grey).
COLOUR_MEAN, COLOUR_STD = (0.7630, 0.5456, 0.5700), (0.1409, 0.1526, 0.1700)
GREY_MEAN, GREY_STD = (0.6147,), (0.1340,)


@data_set("ham10000", uses=("path", "image_size"))
def ham10000(source: DataSource) -> DataSet:
    """The pictures from `root`/HAM10000, resized to `image_size` (default 32), or else the largest file of pixels.

    The metadata alone, without a .jpg, count as no pictures.

    A file of pixels is looked for in `root`/HAM10000, `root`/medical and `root`. `path` names another folder of
    pictures or file of pixels. `test_share` of each class is split off: of its lesions, or of its rows.

    Raises:
        FileNotFoundError: neither pictures nor pixels are there.
        ValueError: a file is damaged or does not fit.
    """
    if source.path:
        path = own_path(source)
        return _of_pictures(source, path) if path.is_dir() else _of_pixels(source, path)
    root = source.folder()
    folder = root / "HAM10000"
    if (folder / METADATA).is_file() and any(_is_picture(file) for file in folder.glob("*/*")):
        return _of_pictures(source, folder)
    for name in PIXEL_FILES:
        for place in PLACES:
            if (root / place / name).is_file():
                return _of_pixels(source, root / place / name)
    raise FileNotFoundError(
        f"data set 'ham10000': put {METADATA} and the folders HAM10000_images_part_1 and _part_2, "
        f"or one of {', '.join(PIXEL_FILES)}, into {folder}"
    )


def _is_picture(file: Path) -> bool:
    return file.suffix.lower() == ".jpg"


def _of_pictures(source: DataSource, folder: Path) -> DataSet:
    names_of = {
        file.stem: PurePosixPath(file.relative_to(folder).as_posix())
        for file in sorted(folder.glob("*/*"))
        if _is_picture(file)
    }
    names, labels, lesions = [], [], []
    for row, lesion, image, diagnosis in _metadata(folder / METADATA):
        if diagnosis not in CLASSES:
            raise row.error(f"dx = {diagnosis}, allowed are {', '.join(CLASSES)}")
        if image not in names_of:
            raise row.error(f"{image} is listed, but no folder in {folder} holds {image}.jpg")
        names.append(names_of[image])
        labels.append(CLASSES.index(diagnosis))
        lesions.append(lesion)
    targets = np.array(labels, dtype=np.int64)
    groups = np.unique(np.array(lesions), return_inverse=True)[1].astype(np.int64)  # a lesion is in one part alone
    parts = hold_out(targets, source.test_share, source.split_seed, groups=groups)
    size = source.image_size or DEFAULT_SIZE
    train, test = decode_splits(unlisted(folder), names, targets, parts, groups=groups, image_size=size, colour=True)
    return DataSet("ham10000", train, test, CLASSES, COLOUR_MEAN, COLOUR_STD)


def _metadata(file: Path) -> Iterator[tuple[Row, str, str, str]]:
    """Lesion, image and diagnosis of each row."""
    if not file.is_file():
        raise FileNotFoundError(f"data set 'ham10000': put {METADATA} into {file.parent}")
    header, *rows = list(csv_rows(file)) or [Row(file, 1, [])]
    if not set(COLUMNS) <= set(header.fields) or not rows:
        raise header.error(f"needs the columns {', '.join(COLUMNS)}, and rows below")
    lesion, image, diagnosis = (header.fields.index(column) for column in COLUMNS)
    for row in rows:
        if len(row.fields) != len(header.fields):
            raise row.error(f"{len(row.fields)} fields, the first line has {len(header.fields)}")
        yield row, row.fields[lesion], row.fields[image], row.fields[diagnosis]


def _of_pixels(source: DataSource, file: Path) -> DataSet:
    images, labels = read_pixels(file)
    side = images.shape[-1]
    if source.image_size not in (0, side):
        raise ValueError(
            f"data.image-size = {source.image_size}: {file} holds {side}x{side} pixels, which are not resized; use 0"
        )
    both = Split(torch.from_numpy(images), torch.from_numpy(labels))
    train, test = map(both.subset, hold_out(labels, source.test_share, source.split_seed))
    mean, std = (GREY_MEAN, GREY_STD) if images.shape[1] == 1 else (COLOUR_MEAN, COLOUR_STD)
    return DataSet("ham10000", train, test, CLASSES, mean, std)


def read_pixels(file: Path) -> tuple[npt.NDArray[np.uint8], IndexArray]:
    """Read a csv file of pixels: pixel0000, pixel0001, ..., label; an image's numbers go row by row, colours innermost.

    Returns:
        uint8 images [N, 1 or 3, side, side] and class ids [N].

    Raises:
        ValueError: damaged, not such a file, or a label that is no class.
    """
    try:
        first, *lines = file.read_text(encoding="utf-8").splitlines() or [""]
        # If there are no lines loadtxt only warns.
        rows = np.loadtxt(lines, dtype=np.uint8, delimiter=",", ndmin=2) if lines else None  # [N, pixels + 1]
    except (OSError, ValueError) as error:
        raise ValueError(f"{file} is damaged or no table of whole numbers in 0..255 ({error})") from error
    if rows is None:
        raise ValueError(f"{file} holds no rows below the names of the columns")
    header = first.replace('"', "").split(",")
    count = len(header) - 1
    channels = next((ch for ch in (1, 3) if count and ch * isqrt(count // ch) ** 2 == count), 0)
    if header[-1] != "label" or not channels or rows.shape[1] != len(header):
        raise ValueError(f"{file} needs the columns pixel0000 to the last of a square image, then label")
    if int(rows[:, -1].max()) >= len(CLASSES):
        raise ValueError(f"{file}: a label is {rows[:, -1].max()}, allowed are 0..{len(CLASSES) - 1}")
    side = isqrt(count // channels)
    images = rows[:, :-1].reshape(-1, side, side, channels).transpose(0, 3, 1, 2)
    return np.ascontiguousarray(images), rows[:, -1].astype(np.int64)
