"""`tiny-imagenet`: 200 classes of ImageNet at 64x64 pixels, in the layout that Stanford's course CS231n distributes."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

import numpy as np

from fedhpro_flwr.data.class_folders import decode_splits
from fedhpro_flwr.data.data_set import DataSet
from fedhpro_flwr.data.own_format import own_path
from fedhpro_flwr.data.pictures import unlisted
from fedhpro_flwr.data.registry import DataSource, data_set

FOLDER = "tiny-imagenet-200"
SUFFIX = ".JPEG"
# Of the pixels of the training pictures scaled to [0, 1]: published constants, not statistics of a client.
MEAN, STD = (0.4802, 0.4481, 0.3975), (0.2770, 0.2691, 0.2821)


@data_set("tiny-imagenet", uses=("path", "image_size"))
def tiny_imagenet(source: DataSource) -> DataSet:
    """100,000 + 10,000 colour pictures of 64x64 pixels from `root`/tiny-imagenet-200, or `path`.

    Classes are in the order of their WordNet ids, named by the first word of words.txt. The test part is `val`: the
    labels of `test` were never published. `image_size` resizes; 0 keeps 64x64.

    Raises:
        FileNotFoundError: the folder, or one of its files, is missing.
        ValueError: a class without pictures, an annotation that does not fit, or a damaged picture.
    """
    folder = own_path(source) if source.path else source.folder() / FOLDER
    if not (folder / "wnids.txt").is_file():
        raise FileNotFoundError(
            f"data set 'tiny-imagenet': put the folder {FOLDER} with wnids.txt, words.txt, train and val "
            f"into {folder.parent}, unpacked from {FOLDER}.zip"
        )
    wnids = sorted({row[0] for row in _rows(folder / "wnids.txt", 1)})
    train = [(name, label) for label, wnid in enumerate(wnids) for name in _train_names(folder, wnid)]
    test = _test_names(folder, wnids)
    names, labels = zip(*train, *test, strict=True)
    ids = np.arange(len(names))
    train_split, test_split = decode_splits(
        unlisted(folder),
        names,
        np.array(labels, dtype=np.int64),
        (ids[: len(train)], ids[len(train) :]),
        image_size=source.image_size,
        colour=True,  # some pictures are grey
    )
    return DataSet("tiny-imagenet", train_split, test_split, _class_names(folder, wnids), MEAN, STD)


def _rows(file: Path, columns: int) -> list[list[str]]:
    """The tab-separated lines of a file, each with at least `columns` entries."""
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError as error:
        raise FileNotFoundError(f"data set 'tiny-imagenet': {file} is missing; unpack the archive again") from error
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{file} is damaged ({error}); unpack the archive again") from error
    rows = [[entry.strip() for entry in line.split("\t")] for line in lines if line.strip()]
    if not rows or min(len(row) for row in rows) < columns:
        raise ValueError(f"{file} is damaged: it needs lines of {columns} or more entries; unpack the archive again")
    return rows


def _train_names(folder: Path, wnid: str) -> list[PurePosixPath]:
    inside = PurePosixPath("train", wnid, "images")
    found = sorted(file.name for file in (folder / inside).glob(f"*{SUFFIX}"))
    if not found:
        raise ValueError(
            f"{folder}: {inside} holds no {SUFFIX} pictures, though wnids.txt lists the class; unpack the archive again"
        )
    return [inside / name for name in found]


def _test_names(folder: Path, wnids: list[str]) -> list[tuple[PurePosixPath, int]]:
    """Pictures of `val` and their labels, in the order of val_annotations.txt."""
    ids = {wnid: label for label, wnid in enumerate(wnids)}
    annotations = folder / "val" / "val_annotations.txt"
    found = []
    for name, wnid, *_ in _rows(annotations, 2):
        if wnid not in ids:
            raise ValueError(f"{annotations}: {name} is of class {wnid}, which wnids.txt does not list")
        inside = PurePosixPath("val", "images", name)
        if not (folder / inside).is_file():
            raise ValueError(f"{annotations} lists {name}, but {inside} is missing; unpack the archive again")
        found.append((inside, ids[wnid]))
    return found


def _class_names(folder: Path, wnids: list[str]) -> tuple[str, ...]:
    words = {wnid: words.split(",")[0] for wnid, words, *_ in _rows(folder / "words.txt", 2)}
    return tuple(words.get(wnid, wnid) for wnid in wnids)
