"""`office-caltech-surf`: Office-Caltech-10 as its authors' histograms of 800 visual words (SURF), without pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from fedhpro_flwr.data.data_set import DataSet, Split
from fedhpro_flwr.data.domain_names import chosen_domains
from fedhpro_flwr.data.office_caltech import DOMAINS, published_split
from fedhpro_flwr.data.own_format import own_path
from fedhpro_flwr.data.registry import DataSource, data_set

FOLDER = "OfficeCaltech10_SURF"
CLASSES = (
    "back_pack",
    "bike",
    "calculator",
    "headphones",
    "keyboard",
    "laptop_computer",
    "monitor",
    "mouse",
    "mug",
    "projector",
)


@data_set("office-caltech-surf", uses=("path", "domains"))
def office_caltech_surf(source: DataSource) -> DataSet:
    """2,533 vectors of 800 numbers from the .mat files in `root`/OfficeCaltech10_SURF, or in `path`.

    A file is named by its domain, with or without 10 or _SURF_L10 behind it, and holds `fts` [n, 800] and `labels` [n]
    from 1. `domains` chooses some of caltech, amazon, webcam and dslr. Split by `published_split`; rows
    that do not stand class by class are brought into that order first.

    Raises:
        FileNotFoundError: the folder or a domain's file is missing.
        ValueError: a file is damaged or holds something else.
    """
    domain_names = chosen_domains(source, DOMAINS)
    folder = own_path(source) if source.path else source.folder() / FOLDER
    files = [_file_of(folder, name) for name in domain_names]
    parts = [_read(file) for file in files]
    widths = [histograms.shape[1] for histograms, _ in parts]
    for file, width in zip(files, widths, strict=True):
        if width != widths[0]:
            raise ValueError(
                f"{file} has histograms of {width} entries, {files[0].name} of {widths[0]}; they must agree"
            )
    inputs = np.concatenate([histograms for histograms, _ in parts])  # [N, 800]
    labels = np.concatenate([labels for _, labels in parts])
    domains = np.repeat(np.arange(len(parts)), [len(labels) for _, labels in parts])
    both = Split(torch.from_numpy(unit_rows(inputs)), torch.from_numpy(labels), torch.from_numpy(domains))
    train, test = map(both.subset, published_split(domains))
    return DataSet("office-caltech-surf", train, test, CLASSES, domain_names=domain_names)


def unit_rows(histograms: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """sqrt(F h / sum(h)) of each histogram h [F]: the mean of the squares of a row is 1.

    The literature divides by the sum too, but then standardises each of the F entries over a whole domain; such
    statistics would have to leave the clients. Here a row needs nothing but itself. The root (RootSIFT, Arandjelovic
    and Zisserman, CVPR 2012) dampens the few words that fill a histogram: without it single entries exceed 100, and
    the two-layer net does not train at a learning rate of 0.05.

    Args:
        histograms: counts [N, F], not negative, no row all zero.

    Returns:
        float32 [N, F].
    """
    sums = histograms.sum(axis=1, keepdims=True, dtype=np.float64)
    rows: npt.NDArray[np.float64] = np.sqrt(histograms.shape[1] * histograms / sums)
    return rows.astype(np.float32)


def _file_of(folder: Path, domain: str) -> Path:
    for file in sorted(folder.iterdir()) if folder.is_dir() else []:
        stem = file.stem.lower().removesuffix("_surf_l10")
        if file.suffix.lower() == ".mat" and stem in (domain, f"{domain}10"):
            return file
    file_name = "caltech10" if domain == "caltech" else domain
    raise FileNotFoundError(f"data set 'office-caltech-surf': put the file {file_name}.mat into {folder}")


def _read(file: Path) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """The histograms [n, F] and the class ids [n] of one domain, class by class."""
    from scipy.io import loadmat  # slow to import

    try:
        content = loadmat(file, variable_names=("fts", "labels"))
    except Exception as error:  # damaged bytes lead scipy's reader to any kind of error
        raise ValueError(f"{file} is damaged, truncated or no .mat file of version 4 to 7 ({error})") from error
    if not {"fts", "labels"} <= set(content):
        raise ValueError(f"{file} needs the arrays fts and labels")
    histograms, labels = np.asarray(content["fts"]), np.asarray(content["labels"]).reshape(-1)
    if histograms.ndim != 2 or len(histograms) != len(labels) or not len(labels) or histograms.dtype.kind not in "uif":
        raise ValueError(
            f"{file}: fts must be numbers [n, F] with n labels, got {list(histograms.shape)} and {len(labels)}"
        )
    if not np.isin(labels, np.arange(1, len(CLASSES) + 1)).all():
        raise ValueError(f"{file}: labels must be whole numbers from 1 to {len(CLASSES)}")
    if not (histograms >= 0).all() or not (histograms.sum(axis=1) > 0).all():
        raise ValueError(f"{file}: fts must be histograms, not negative, with a sum above 0 in each row")
    by_class = np.argsort(labels, kind="stable")  # the published split counts along the classes
    return histograms[by_class].astype(np.float32), labels[by_class].astype(np.int64) - 1
