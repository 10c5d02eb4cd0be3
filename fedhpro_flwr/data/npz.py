"""`npz`: the user's own samples in one NumPy file.

    x_train, y_train; or train_images, train_labels; or images, labels          to train on
    x_test, y_test; or test_images, test_labels                                 to test on; may be left out

Any pair to train on goes with any pair to test on; without the latter, a test part is split off. What the server alone
tests on may be a pair to test on and nothing else.
`data/npz_layout.py` says which other arrays are refused.

Images are uint8 [N, H, W], [N, H, W, ch] or [N, ch, H, W] with 1 or 3 channels, or floats of those shapes in
[0, 1]; vectors are numbers [N, F]. Labels are whole numbers from 0 on, without a gap unless the classes are declared.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from logging import getLogger
from pathlib import Path
from tokenize import TokenError

import numpy as np
import numpy.typing as npt
import torch

from fedhpro_flwr.data.data_set import Split
from fedhpro_flwr.data.declared import CHANNELS, declared_classes
from fedhpro_flwr.data.endless import is_endless
from fedhpro_flwr.data.npz_layout import Header, Pair, layout, refuse_unread
from fedhpro_flwr.data.own_format import OwnSamples, own_format, own_path
from fedhpro_flwr.data.registry import DataSource

MOST_COUNTED = 32  # in a vector of uint8; larger numbers look like the pixels of a picture
MOST_CLASSES = 10**6  # more than data.classes can declare: a mistyped label should not ask for their memory
# What reading a damaged archive raises; RuntimeError: it is encrypted, or packed in a way that zipfile does not know.
DAMAGE = (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, TokenError)


@own_format("npz", suffix=".npz")
def npz(source: DataSource) -> OwnSamples:
    """Samples from the file `path`; the classes are 0 .. largest label, or those that `classes` declares.

    Raises:
        FileNotFoundError: the file is missing.
        ValueError: it is damaged, its arrays cannot be used, or a label is beyond the declared classes or, if none are
            declared, not below MOST_CLASSES.
    """
    file = own_path(source)
    if file.is_dir():
        raise ValueError(f"{file} is a folder, data.name = 'npz' reads one .npz file; name the file")
    train, test = read_parts(file, whole=True)
    largest = max(int(split.labels.max()) for split in (train, test) if split is not None)
    declared = declared_classes(source.classes)
    if declared and largest >= len(declared):
        raise ValueError(
            f"{file}: a label is {largest}, but data.classes declares {len(declared)} classes, "
            f"0 to {len(declared) - 1}; correct one of them"
        )
    if largest >= MOST_CLASSES:
        raise ValueError(f"{file}: a label is {largest}, which is no class id; number the classes from 0 without a gap")
    return OwnSamples(train, test, declared or tuple(str(c) for c in range(largest + 1)))


def read_npz(file: Path) -> tuple[Split, Split | None]:
    """Read the training part and, if there is one, the test part of a published file.

    Raises:
        ValueError: as `read_parts`, or there is no training part.
    """
    train, test = read_parts(file)
    if train is None:
        raise ValueError(f"{file} has no training part: x_train and y_train are needed")
    return train, test


def read_parts(file: Path, *, whole: bool = False) -> tuple[Split | None, Split | None]:
    """Read the training part and the test part; a file has at least one of both.

    Args:
        file: a .npz archive.
        whole: refuse arrays that look like samples or labels but are not read; published files may have such.

    Raises:
        ValueError: the file is damaged, no layout fits, or an array cannot be used.
    """
    with open_npz(file) as archive:
        try:
            train, test = layout(archive.files)
            names = (*(train or ()), *(test or ()))
            arrays = {name: stored_array(archive, name) for name in names}
            if test and not any(arrays[name].size for name in test):
                raise ValueError(f"{' and '.join(test)} hold no samples; leave both out of the file")
            if whole:
                read = {name: Header(array.shape, array.dtype) for name, array in arrays.items()}
                refuse_unread(other_headers(archive, names) | read, names)
        except DAMAGE as error:
            raise ValueError(f"{file} is damaged or truncated ({error})") from error
        except ValueError as error:
            raise ValueError(f"{file}: {error}") from error
    return _split(file, train, arrays) if train else None, _split(file, test, arrays) if test else None


def open_npz(file: Path) -> np.lib.npyio.NpzFile:
    """The open archive, which the caller has to close.

    Raises:
        OSError: it cannot be read.
        ValueError: it is damaged, or no .npz archive.
    """
    if is_endless(file):
        raise ValueError(f"{file} is a pipe or a device, no .npz file")
    with file.open("rb") as begun:
        head = begun.read(6)
    if not head.startswith((b"PK", b"\x93NUMPY")) and head:  # NumPy would take it for a pickle, and say how to load it
        raise ValueError(f"{file} is damaged or no .npz file: its first bytes are not those of an archive")
    try:
        archive = np.load(file, allow_pickle=False)
    except (*DAMAGE, ValueError) as error:
        raise ValueError(f"{file} is damaged, truncated or no .npz file ({error})") from error
    if not isinstance(archive, np.lib.npyio.NpzFile):
        raise ValueError(f"{file} is a single array, a .npz archive is needed")
    return archive


def other_headers(archive: np.lib.npyio.NpzFile, known: Collection[str]) -> dict[str, Header]:
    """The headers of all arrays but the known ones, without their content; what is no array is left out."""
    found: dict[str, Header] = {}
    for name in archive.files:
        if name in known or archive.zip is None:
            continue
        with suppress(KeyError, ValueError), archive.zip.open(f"{name}.npy") as file:
            major, _ = np.lib.format.read_magic(file)
            read = np.lib.format.read_array_header_1_0 if major == 1 else np.lib.format.read_array_header_2_0
            shape, _, dtype = read(file)
            found[name] = Header(shape, dtype)
    return found


def stored_array(archive: np.lib.npyio.NpzFile, name: str) -> npt.NDArray[np.generic]:
    """One array of an archive, which may hold anything.

    Raises:
        ValueError: it is no array, an array of Python objects, or larger than the memory; errors of DAMAGE pass too.
    """
    try:
        array = archive[name]
    except MemoryError as error:  # a damaged header asks for any size
        raise ValueError(f"{name} is larger than the memory: {error}") from error
    except ValueError as error:
        raise ValueError(
            f"{name} is an array that cannot be used, or of Python objects, which are never loaded ({error})"
        ) from error
    if not isinstance(array, np.ndarray):
        raise ValueError(f"{name} is no NumPy array")
    return array


def _split(file: Path, pair: Pair, arrays: Mapping[str, npt.NDArray[np.generic]]) -> Split:
    inputs_name, labels_name = pair
    inputs, labels = arrays[inputs_name], arrays[labels_name]
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]  # MedMNIST stores a column
    if not np.issubdtype(labels.dtype, np.integer) or labels.ndim != 1:
        raise ValueError(f"{file}: {labels_name} must be whole numbers [N], got {labels.dtype} {list(labels.shape)}")
    if inputs.ndim == 0:
        raise ValueError(f"{file}: {inputs_name} is a single number, samples [N, ...] are needed")
    if len(labels) != len(inputs):
        raise ValueError(f"{file}: {inputs_name} has {len(inputs)} samples but {labels_name} has {len(labels)} labels")
    warn_of_scale(f"{file}: {inputs_name}", inputs)
    try:
        return Split(samples_of_array(inputs), torch.from_numpy(labels.astype(np.int64)))
    except ValueError as error:
        raise ValueError(f"{file}: {inputs_name}, {labels_name}: {error}") from error


def warn_of_scale(name: str, inputs: npt.NDArray[np.generic]) -> None:
    """Warn of bytes that models hardly learn from: vectors of pixels, and pictures of 0 and 1 where 255 is white.

    Args:
        name: of the file and the array, for the log.
        inputs: [N, ...], as they are stored.
    """
    largest = int(inputs.view(np.uint8).max()) if inputs.dtype == np.uint8 and inputs.size else 0
    if inputs.ndim == 2 and largest > MOST_COUNTED:
        getLogger("flwr").warning(
            "%s holds vectors of whole numbers up to %d, which are taken as they are, and models hardly learn from "
            "such; if they are pixels, divide them by 255, or give pictures [N, H, W]", name, largest
        )  # fmt: skip
    elif inputs.ndim > 2 and largest == 1:
        getLogger("flwr").warning(
            "%s holds pictures of bytes 0 and 1, where 255 is white: they are as good as black, and models hardly "
            "learn from such; multiply them by 255", name
        )  # fmt: skip


def samples_of_array(array: npt.NDArray[np.generic], channels: Sequence[int] = CHANNELS) -> torch.Tensor:
    """The samples [N, ...] of an array in one of the shapes that this module names.

    Args:
        array: vectors or images.
        channels: how many an image may have.

    Raises:
        ValueError: another type or shape, or float images outside of [0, 1].
    """
    is_real = np.issubdtype(array.dtype, np.floating) or np.issubdtype(array.dtype, np.integer)
    if array.ndim == 2 and is_real:
        with np.errstate(over="ignore"):  # the error below says it in a sentence
            vectors = array.astype(np.float32)
        if not np.isfinite(vectors).all() and np.isfinite(array).all():
            raise ValueError("vectors hold numbers beyond 3.4e38, the largest of 32 bits; scale them")
        return torch.from_numpy(vectors)
    if array.dtype == np.uint8:
        pixels: npt.NDArray[np.uint8] | npt.NDArray[np.float32] = array.astype(np.uint8, copy=False)
    elif np.issubdtype(array.dtype, np.floating):
        with np.errstate(over="ignore"):  # beyond [0, 1], which the error below says
            pixels = array.astype(np.float32)
        if array.size and not (pixels.min() >= 0 and pixels.max() <= 1):
            raise ValueError("float images must lie in [0, 1]" + (" and not be NaN" if np.isnan(pixels).any() else ""))
    else:
        raise ValueError(f"images must be uint8 or floats in [0, 1], vectors numbers [N, F]; got {array.dtype}")
    if pixels.ndim == 3:
        pixels = pixels[:, None]  # [N, H, W] -> [N, 1, H, W]
    elif pixels.ndim == 4 and pixels.shape[1] not in channels and pixels.shape[3] in channels:
        pixels = pixels.transpose(0, 3, 1, 2)  # [N, H, W, ch] -> [N, ch, H, W]
    if pixels.ndim != 4 or pixels.shape[1] not in channels:
        raise ValueError(f"images need shape [N, H, W] or 1 or 3 channels, vectors [N, F]; got {list(array.shape)}")
    return torch.from_numpy(np.ascontiguousarray(pixels))
