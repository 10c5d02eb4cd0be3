"""`npz`: the user's own samples in one NumPy file.

    x_train, y_train, x_test, y_test                            the test part may be left out
    images, labels                                              a test part is split off
    train_images, train_labels, test_images, test_labels        the layout of MedMNIST

Images are uint8 [N, H, W], [N, H, W, ch] or [N, ch, H, W] with 1 or 3 channels, or floats of those shapes in
[0, 1]; vectors are numbers [N, F]. Labels are whole numbers from 0 on.
"""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from fedhpro_flwr.data.data_set import DataSet, Split
from fedhpro_flwr.data.hold_out import hold_out
from fedhpro_flwr.data.registry import DataSource, data_set

LAYOUTS = (
    ("x_train", "y_train", "x_test", "y_test"),
    ("train_images", "train_labels", "test_images", "test_labels"),
    ("images", "labels", "", ""),
)
DAMAGE = (zipfile.BadZipFile, zlib.error, EOFError, OSError)  # what reading a damaged archive raises


@data_set("npz", uses=())
def npz(source: DataSource) -> DataSet:
    """Samples from the file `path`; the classes are 0 .. largest label.

    Raises:
        FileNotFoundError: the file is missing.
        ValueError: it is damaged, or its arrays cannot be used.
    """
    file = own_path(source)
    train, test = read_npz(file)
    if test is None:
        train_ids, test_ids = hold_out(train.labels.numpy(), source.test_share, source.split_seed)
        train, test = train.subset(torch.from_numpy(train_ids)), train.subset(torch.from_numpy(test_ids))
    num_classes = 1 + int(max(train.labels.max(), test.labels.max()))
    class_names = tuple(str(c) for c in range(num_classes))
    mean, std = own_normalisation(train)
    try:
        return DataSet("npz", train, test, class_names, mean, std)
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from error


def own_path(source: DataSource) -> Path:
    """The file or folder `source.path`.

    Raises:
        ValueError: no path is given.
        FileNotFoundError: nothing is there.
    """
    if not source.path:
        raise ValueError(f"data.name = {source.name!r} needs data.path, the place of your data")
    path = Path(source.path).expanduser()
    if not path.exists():
        raise FileNotFoundError(f"data.path = {str(path)!r} does not exist; put your data there or correct the path")
    return path


def own_normalisation(split: Split) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Fixed mean and std: 0.5 for images, 0 and 1 for vectors.

    Nothing is computed from the samples: statistics over all clients' data would have to leave the clients.
    """
    if split.inputs.ndim == 2:
        return (0.0,), (1.0,)
    channels = split.inputs.shape[1]
    return (0.5,) * channels, (0.5,) * channels


def read_npz(file: Path) -> tuple[Split, Split | None]:
    """Read the training part and, if there is one, the test part.

    Raises:
        ValueError: the file is damaged, no layout fits, or an array cannot be used.
    """
    try:
        archive = np.load(file, allow_pickle=False)
    except (*DAMAGE, ValueError) as error:
        raise ValueError(f"{file} is damaged, truncated or no .npz file ({error})") from error
    if not isinstance(archive, np.lib.npyio.NpzFile):
        raise ValueError(f"{file} is a single array, a .npz archive is needed")
    with archive:
        names = next((layout for layout in LAYOUTS if {layout[0], layout[1]} <= set(archive.files)), None)
        if names is None:
            wanted = "; or ".join(", ".join(name for name in layout if name) for layout in LAYOUTS)
            raise ValueError(f"{file} holds {', '.join(archive.files) or 'nothing'}; it needs {wanted}")
        try:
            arrays = [archive[name] if name in archive.files else None for name in names]
        except DAMAGE as error:
            raise ValueError(f"{file} is damaged or truncated ({error})") from error
        except ValueError as error:
            raise ValueError(
                f"{file} holds a damaged array or Python objects, which are never loaded ({error})"
            ) from error
    images, labels, test_images, test_labels = arrays
    assert images is not None and labels is not None
    train = _split(file, names[0], images, names[1], labels)
    if (test_images is None) != (test_labels is None):
        missing, there = (names[2], names[3]) if test_images is None else (names[3], names[2])
        raise ValueError(f"{file} holds {there} but not {missing}; give both or neither")
    if test_images is None or test_labels is None:
        return train, None
    return train, _split(file, names[2], test_images, names[3], test_labels)


def _split(
    file: Path,
    inputs_name: str,
    inputs: npt.NDArray[np.generic],
    labels_name: str,
    labels: npt.NDArray[np.generic],
) -> Split:
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]  # MedMNIST stores a column
    if not np.issubdtype(labels.dtype, np.integer) or labels.ndim != 1:
        raise ValueError(f"{file}: {labels_name} must be whole numbers [N], got {labels.dtype} {list(labels.shape)}")
    if len(labels) != len(inputs):
        raise ValueError(f"{file}: {inputs_name} has {len(inputs)} samples but {labels_name} has {len(labels)} labels")
    try:
        return Split(_inputs(inputs), torch.from_numpy(labels.astype(np.int64)))
    except ValueError as error:
        raise ValueError(f"{file}: {inputs_name}, {labels_name}: {error}") from error


def _inputs(array: npt.NDArray[np.generic]) -> torch.Tensor:
    is_real = np.issubdtype(array.dtype, np.floating) or np.issubdtype(array.dtype, np.integer)
    if array.ndim == 2 and is_real:
        return torch.from_numpy(array.astype(np.float32))
    if array.dtype == np.uint8:
        pixels: npt.NDArray[np.uint8] | npt.NDArray[np.float32] = array.astype(np.uint8, copy=False)
    elif np.issubdtype(array.dtype, np.floating):
        pixels = array.astype(np.float32)
        if array.size and not (pixels.min() >= 0 and pixels.max() <= 1):
            raise ValueError("float images must lie in [0, 1]")
    else:
        raise ValueError(f"images must be uint8 or floats in [0, 1], vectors numbers [N, F]; got {array.dtype}")
    if pixels.ndim == 3:
        pixels = pixels[:, None]  # [N, H, W] -> [N, 1, H, W]
    elif pixels.ndim == 4 and pixels.shape[1] not in (1, 3) and pixels.shape[3] in (1, 3):
        pixels = pixels.transpose(0, 3, 1, 2)  # [N, H, W, ch] -> [N, ch, H, W]
    if pixels.ndim != 4 or pixels.shape[1] not in (1, 3):
        raise ValueError(f"images need shape [N, H, W] or 1 or 3 channels, vectors [N, F]; got {list(array.shape)}")
    return torch.from_numpy(np.ascontiguousarray(pixels))
