"""`office-caltech`: ten classes of office things in four domains (Gong et al., CVPR 2012), as pictures.

The split is that of the works on federated domain skew since FPL (Huang et al., CVPR 2023): by the position in the
domain, class by class, not at random.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import numpy as np

from fedhpro_flwr.data.augment import IMAGENET_MEAN, IMAGENET_STD
from fedhpro_flwr.data.class_folders import decode_splits
from fedhpro_flwr.data.data_set import DataSet, IndexArray
from fedhpro_flwr.data.domain_folder import domain_folders
from fedhpro_flwr.data.domain_names import chosen_domains
from fedhpro_flwr.data.own_format import own_path
from fedhpro_flwr.data.pictures import PictureFolder, open_pictures
from fedhpro_flwr.data.registry import DataSource, data_set

DOMAINS = ("caltech", "amazon", "webcam", "dslr")
NUM_CLASSES = 10
FOLDERS = frozenset(("officecaltech10", "officecaltech"))  # in small letters, without - and _
DEFAULT_SIZE = 32


@data_set("office-caltech", uses=("path", "domains", "image_size"))
def office_caltech(source: DataSource) -> DataSet:
    """2,533 colour pictures from `root`/Office-Caltech10/domain/class, or `path`, resized to `image_size` (default 32).

    Capitals do not matter in the names of the folder and of the domains, nor do - and _ in the folder's, whose 10 may
    be missing: Office-Caltech or Office_Caltech_10 will do.
    `domains` chooses some of caltech, amazon, webcam and dslr. Split by `published_split`.

    Raises:
        FileNotFoundError: the folder, or that of a domain, is missing.
        ValueError: another layout, other classes in one domain than in another, or a damaged picture.
    """
    domain_names = chosen_domains(source, DOMAINS)
    with open_pictures(_place(source)) as pictures:
        found = domain_folders(pictures, {name: _folder_of(pictures, name) for name in domain_names})
        if found.has_test or len(found.class_names) != NUM_CLASSES:
            layout = "train and test folders" if found.has_test else f"{len(found.class_names)} classes"
            raise ValueError(
                f"{pictures.path} has {layout}, but Office-Caltech is domain/class/picture.jpg with {NUM_CLASSES} "
                "classes; use data.name = 'domain-folder' for other data"
            )
        train, test = decode_splits(
            pictures,
            found.names,
            found.labels,
            published_split(found.domains),
            domains=found.domains,
            image_size=source.image_size or DEFAULT_SIZE,
            colour=True,
        )
    return DataSet("office-caltech", train, test, found.class_names, IMAGENET_MEAN, IMAGENET_STD, domain_names)


def published_split(domains: Sequence[int] | IndexArray) -> tuple[IndexArray, IndexArray]:
    """Of every ten successive samples of a domain, the first eight are to train on and the last two to test on.

    The count runs on from class to class, as in torchvision's ImageFolder: the samples of a domain have to stand class
    by class in the order of the names, sorted by file within a class. A class's share of test samples varies with that.

    Args:
        domains: domain ids [N].

    Returns:
        Ascending sample ids of the training and of the test part.
    """
    domains = np.asarray(domains, dtype=np.int64)
    order = np.argsort(domains, kind="stable")
    _, starts, sizes = np.unique(domains[order], return_index=True, return_counts=True)
    position = np.empty_like(domains)
    position[order] = np.arange(len(domains)) - np.repeat(starts, sizes)  # of a sample within its domain
    is_test = position % 10 >= 8
    return np.flatnonzero(~is_test), np.flatnonzero(is_test)


def _place(source: DataSource) -> Path:
    if source.path:
        return own_path(source)
    root = source.folder()
    entries = sorted(root.iterdir()) if root.is_dir() else []
    for entry in entries:
        if entry.is_dir() and entry.name.lower().replace("-", "").replace("_", "") in FOLDERS:
            return entry
    raise FileNotFoundError(
        f"data set 'office-caltech': put the folder Office-Caltech10 into {root}, "
        f"with domain/class/picture.jpg for the domains {', '.join(DOMAINS)}"
    )


def _folder_of(pictures: PictureFolder, domain: str) -> PurePosixPath:
    tops = {name.parts[0] for name in (*pictures.names, *pictures.folders)}
    folder = next((name for name in sorted(tops) if name.lower() == domain), None)
    if folder is None:
        raise FileNotFoundError(
            f"data set 'office-caltech': put the folder {domain} of class/picture.jpg into {pictures.path}"
        )
    return PurePosixPath(folder)
