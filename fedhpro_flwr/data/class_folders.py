"""The layout of pictures in folders of classes, and the two splits made of it.

    class/picture.png
    train/class/picture.png, test/class/picture.png

In the second form each picture's part is given, in the first one the caller chooses the test part. If the classes are
declared, there may be a test part alone. A validation part beside a test part is left alone, and one folder around all
of it, as in a .zip of a folder, does not matter.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fedhpro_flwr.data.data_set import IndexArray, Split
from fedhpro_flwr.data.declared import class_name
from fedhpro_flwr.data.own_format import OwnSamples
from fedhpro_flwr.data.pictures import SUFFIXES, PictureFolder, decode

TRAIN, TEST = "train", "test"
VALIDATION = "val"
PARTS = {  # by the names of their folders, in small letters
    **dict.fromkeys(("train", "training"), TRAIN),
    **dict.fromkeys(("test", "testing"), TEST),
    **dict.fromkeys(("val", "valid", "validation"), VALIDATION),
}


@dataclass(frozen=True)
class ClassFolders:
    """Pictures and their classes.

    Args:
        names: of the pictures, sorted.
        class_names: the declared ones, or else those of the training part, sorted.
        has_test: whether there are train and test folders, or a test folder alone.
    """

    names: tuple[PurePosixPath, ...]
    class_names: tuple[str, ...]
    has_test: bool

    def labels(self) -> IndexArray:
        """Class ids [N]."""
        ids = {name: label for label, name in enumerate(self.class_names)}
        return np.array([ids[class_name(name.parent.name)] for name in self.names], dtype=np.int64)

    def is_test(self) -> npt.NDArray[np.bool_]:
        """Whether a picture lies in the test folder [N]; all False if there is none."""
        return np.array([self.has_test and part_of(name.parts[-3]) == TEST for name in self.names], dtype=np.bool_)

    def samples(self, inputs: Tensor) -> OwnSamples:
        """`inputs` [N, ...], made of the pictures in their order, with the pictures' classes and split into parts."""
        whole, is_test = Split(inputs, torch.from_numpy(self.labels())), self.is_test()
        train = None if is_test.all() else whole.subset(~is_test)
        return OwnSamples(train, whole.subset(is_test) if self.has_test else None, self.class_names)


def class_folders(
    place: str,
    names: Sequence[PurePosixPath],
    folders: Collection[PurePosixPath],
    declared: tuple[str, ...] = (),
) -> ClassFolders:
    """Find the classes: each innermost folder is one, and gives it its name (in Unicode's form C).

    Args:
        place: what is searched, for errors.
        names: of the pictures, relative to that place, sorted.
        folders: of the folders, relative to it too.
        declared: names of all classes; there need not be a folder of each. Empty takes the folders there are.

    Raises:
        ValueError: no classes; a class that has no pictures, is undeclared or (if none are declared) is in the test
            part alone; or a picture outside of the classes' folders.
    """
    classes = {name.parent for name in names} | set(folders)
    classes -= {parent for folder in classes for parent in folder.parents}
    around = folders_around(classes, 1)
    above = {folder: tuple(map(part_of, folder.parts[around:-1])) for folder in classes if folder.parts}
    parts = set(above.values())  # () or ("train",) and ("test",)
    if parts == {(TRAIN,), (VALIDATION,)}:
        raise ValueError(f"{place} has a part to train on and one to validate on; call the one to test on {TEST}")
    is_flat = all(is_part(str(folder)) and str(folder) not in declared for folder in classes)  # no classes in the parts
    divided = [{(TRAIN,), (TEST,)}, *([{(TEST,)}] if declared else [])]  # a test part alone does not show all classes
    if is_flat or (parts != {()} and parts - {(VALIDATION,)} not in divided):
        within = {PurePosixPath(*folder.parts[around:]) for folder in classes}
        raise ValueError(
            f"{place} has no folders of classes: it needs class/picture.png, "
            f"or train/class/picture.png and test/class/picture.png{_if_domains(within)}"
        )
    left_alone = {folder for folder in classes if above[folder] == (VALIDATION,)}
    classes -= left_alone
    names = [name for name in names if name.parent not in left_alone]
    for name in names:
        if name.parent not in classes:
            raise ValueError(f"{place}: {name} lies outside of the folders of classes; move or delete it")
    empty = sorted(classes - {name.parent for name in names})
    if empty:
        raise ValueError(
            f"{place}: the class folder {empty[0]} holds no pictures ({', '.join(sorted(SUFFIXES))}); "
            "fill it or delete it"
        )
    in_training = {class_name(folder.name) for folder in classes if above[folder] != (TEST,)}
    for folder in sorted(classes):
        if declared and class_name(folder.name) not in declared:
            raise ValueError(f"{place}: the class folder {folder} is none of data.classes; correct one of them")
        if not declared and class_name(folder.name) not in in_training:
            raise ValueError(f"{place}: the class {folder} is in the test part alone; add it to train")
    return ClassFolders(tuple(names), declared or tuple(sorted(in_training)), (TEST,) in parts)


def part_of(folder: str) -> str:
    """The part whose folder has that name, `train`, `test` or `val`; the name itself if it is not that of a part."""
    return PARTS.get(folder.lower(), folder)


def is_part(folder: str) -> bool:
    """Whether that is the name of a part's folder."""
    return folder.lower() in PARTS


def folders_around(innermost: Collection[PurePosixPath], layers: int) -> int:
    """How many folders lie around all others, as in a .zip of a folder: none or one.

    Args:
        innermost: folders that pictures lie in, relative to the place that is searched.
        layers: how deep the layout's folders are nested: 1 for classes, 2 for classes in domains; the folder of a part
            does not count.
    """
    tops = {folder.parts[:1] for folder in innermost}
    is_deeper = all(len(folder.parts) > layers and not is_part(folder.parts[layers - 1]) for folder in innermost)
    return int(len(tops) == 1 and is_deeper)


def _if_domains(classes: Collection[PurePosixPath]) -> str:
    """What to do, for the message, if the folders of classes lie in folders of domains, as in `domain-folder`."""
    if not classes or any(len(folder.parts) < 2 or is_part(folder.parts[0]) for folder in classes):
        return ""
    if any(len(folder.parts) > 3 or not all(map(is_part, folder.parts[1:-1])) for folder in classes):
        return ""
    domain = min(classes).parts[0]
    return (
        f"; if {domain} is a domain, name the folder {domain} alone: only a data set that the run divides can have "
        "several, with data.name = 'domain-folder'"
    )


def decode_splits(
    pictures: PictureFolder,
    names: Sequence[PurePosixPath],
    labels: IndexArray,
    parts: tuple[IndexArray, IndexArray],
    *,
    domains: IndexArray | None = None,
    groups: IndexArray | None = None,
    image_size: int,
    colour: bool = False,
) -> tuple[Split, Split]:
    """Decode the pictures of the training and of the test part.

    Args:
        pictures: where they are read.
        names: of the pictures [N].
        labels: their class ids [N].
        parts: ids of the training and of the test pictures.
        domains, groups: their domain and group ids [N]; None if there are none.
        image_size, colour: see `decode`.

    Raises:
        ValueError: a damaged picture, or pictures of several sizes if `image_size` is 0.
    """
    # Training first, then test: both are slices of the one array, nothing is copied.
    ids = np.concatenate(parts)
    inputs = decode(pictures, [names[i] for i in ids], image_size=image_size, colour=colour)
    targets = torch.from_numpy(labels[ids])
    whole = Split(inputs, targets, *(None if of is None else torch.from_numpy(of[ids]) for of in (domains, groups)))
    cut = len(parts[0])
    return whole.subset(slice(cut)), whole.subset(slice(cut, None))
