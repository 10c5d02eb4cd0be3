"""`domain-folder`: the user's own pictures of several domains (PACS and the like), in a folder or a .zip.

    domain/class/picture.png                                           a test part is split off
    domain/train/class/picture.png, domain/test/class/picture.png

Every domain has the same classes. All pictures have one size, or are resized to `image_size`. One folder around all of
it, as in a .zip of a folder, does not matter.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np
import numpy.typing as npt

from fedhpro_flwr.data.class_folders import ClassFolders, class_folders, decode_splits, folders_around, is_part
from fedhpro_flwr.data.data_set import DataSet, IndexArray
from fedhpro_flwr.data.domain_names import chosen_domains
from fedhpro_flwr.data.hold_out import hold_out
from fedhpro_flwr.data.own_format import own_normalisation, own_path
from fedhpro_flwr.data.pictures import PictureFolder, open_pictures
from fedhpro_flwr.data.registry import DataSource, data_set


@dataclass(frozen=True)
class DomainFolders:
    """Pictures with their classes and domains.

    Args:
        names: of the pictures, domain by domain, sorted within a domain.
        labels, domains: class and domain ids [N].
        is_test: whether a picture lies in a test folder [N].
        class_names: of all domains.
        has_test: whether there are train and test folders.
    """

    names: tuple[PurePosixPath, ...]
    labels: IndexArray
    domains: IndexArray
    is_test: npt.NDArray[np.bool_]
    class_names: tuple[str, ...]
    has_test: bool


@data_set("domain-folder", uses=("path", "domains", "image_size"))
def domain_folder(source: DataSource) -> DataSet:
    """Pictures from the folder or .zip `path`; the domains are its sub-folders, the classes the sub-folders of those.

    `domains` chooses some of them and their order; the default is all of them by name. If there are no test folders,
    `test_share` of every class of every domain is split off.

    Raises:
        FileNotFoundError: `path` is missing.
        ValueError: an unknown domain, classes that differ between domains, a class without pictures, a damaged
            picture, or pictures of several sizes.
    """
    with open_pictures(own_path(source)) as pictures:
        pictures.tell_left_out()
        around = folders_around({name.parent for name in pictures.names}, 2)
        top = pictures.names[0].parts[0] if around else ""
        folders = {name.parts[around] for name in (*pictures.folders, *pictures.names) if len(name.parts) > around}
        outside = sorted(name for name in pictures.names if len(name.parts) == 1)
        if outside:
            raise ValueError(f"{pictures.path}: {outside[0]} lies outside of the folders of domains; move or delete it")
        if all(map(is_part, folders)):
            raise ValueError(
                f"{pictures.path} has no folders of domains: it needs domain/class/picture.png, or "
                "domain/train/class/picture.png and domain/test/class/picture.png"
            )
        domain_names = chosen_domains(source, sorted(folders))
        found = domain_folders(pictures, {name: PurePosixPath(top, name) for name in domain_names})
        if found.has_test:
            parts = np.flatnonzero(~found.is_test), np.flatnonzero(found.is_test)
        else:
            kinds = found.domains * len(found.class_names) + found.labels  # one for each class of each domain
            parts = hold_out(kinds, source.test_share, source.split_seed)
        train, test = decode_splits(
            pictures, found.names, found.labels, parts, domains=found.domains, image_size=source.image_size
        )
    mean, std = own_normalisation(tuple(train.inputs.shape[1:]))
    return DataSet("domain-folder", train, test, found.class_names, mean, std, domain_names)


def domain_folders(pictures: PictureFolder, folder_of: Mapping[str, PurePosixPath]) -> DomainFolders:
    """Find the pictures of every domain.

    Args:
        pictures: the listed folder or .zip.
        folder_of: the folder of each domain, in the order of the domain ids.

    Raises:
        ValueError: a layout that does not fit, a class without pictures, or classes that differ between domains.
    """
    found = {domain: _one_domain(pictures, domain, folder) for domain, folder in folder_of.items()}
    first, *others = found
    for domain in others:
        _check_same(pictures, (first, found[first]), (domain, found[domain]))
    sizes = [len(classes.names) for classes in found.values()]
    return DomainFolders(
        names=tuple(
            PurePosixPath(folder_of[domain], name) for domain, classes in found.items() for name in classes.names
        ),
        labels=np.concatenate([classes.labels() for classes in found.values()]),
        domains=np.repeat(np.arange(len(found), dtype=np.int64), sizes),
        is_test=np.concatenate([classes.is_test() for classes in found.values()]),
        class_names=found[first].class_names,
        has_test=found[first].has_test,
    )


def _one_domain(pictures: PictureFolder, domain: str, folder: PurePosixPath) -> ClassFolders:
    above = len(folder.parts)
    names, folders = (
        [PurePosixPath(*name.parts[above:]) for name in among if name.parts[:above] == folder.parts != name.parts]
        for among in (pictures.names, pictures.folders)
    )
    return class_folders(f"{pictures.path}, domain {domain}", names, folders)


def _check_same(pictures: PictureFolder, first: tuple[str, ClassFolders], other: tuple[str, ClassFolders]) -> None:
    for (name, here), (other_name, there) in ((first, other), (other, first)):
        lacking = sorted(set(there.class_names) - set(here.class_names))
        if lacking:
            raise ValueError(
                f"{pictures.path}: domain {name} lacks the class {lacking[0]}, which domain {other_name} has; "
                "all domains need the same classes"
            )
        if here.has_test and not there.has_test:
            raise ValueError(
                f"{pictures.path}: domain {name} has train and test folders, domain {other_name} has not; "
                "give them to every domain or to none"
            )
