"""`mnist`, `cifar10`, `cifar100`, `cifar10-subset`: public image sets in the folder layout of torchvision.

torchvision is imported only to download and to read CIFAR (it checks the files' md5 sums before it opens
them); MNIST's simple format is read here, unzipped or not, also from a folder that cannot be written to.
"""

from __future__ import annotations

import gzip
import hashlib
import zlib
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch

from fedhpro_flwr.data.data_set import DataSet, Split
from fedhpro_flwr.data.digits import DIGITS
from fedhpro_flwr.data.kept_tensor import kept_tensor
from fedhpro_flwr.data.npz import read_npz
from fedhpro_flwr.data.public_files import fetching
from fedhpro_flwr.data.registry import DataSource, data_set
from fedhpro_flwr.home_folder import expanded

if TYPE_CHECKING:
    from torchvision.datasets import CIFAR10

IDX_UINT8 = 0x08  # the third byte of an idx file: its element type
MNIST_FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)
CIFAR10_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
CIFAR10_MEAN, CIFAR10_STD = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)  # as the reference
CIFAR100_MEAN, CIFAR100_STD = (0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)
CIFAR10_SUBSET = Path("CIFAR10") / "cifar10_lossless_first932_per_batch.npz"


@data_set("mnist", uses=())
def mnist(source: DataSource) -> DataSet:
    """60,000 + 10,000 grey digits of 28x28 pixels from `root`/MNIST/raw.

    Raises:
        FileNotFoundError: a file is missing and `download` is off, or cannot be fetched.
        ValueError: a file is damaged.
    """
    root = source.folder()
    folder = root / "MNIST" / "raw"
    if source.download and not all(_idx_file(folder, name) for name in MNIST_FILES):
        from torchvision.datasets import MNIST  # slow to import

        with fetching(source, "MNIST", f"put its four files into {folder}"):
            MNIST(str(root), download=True)
    arrays = []
    for name in MNIST_FILES:
        file = _idx_file(folder, name)
        if file is None:
            raise FileNotFoundError(
                f"data set 'mnist': put {name} or {name}.gz into {folder} (data.download = true would fetch it)"
            )
        arrays.append(_unzipped(file) if file.suffix == ".gz" else torch.from_numpy(read_idx(file)))
    train_images, train_labels, test_images, test_labels = arrays
    return DataSet(
        name="mnist",
        train=Split(train_images.unsqueeze(1), train_labels.long()),
        test=Split(test_images.unsqueeze(1), test_labels.long()),
        class_names=DIGITS,
        mean=(0.1307,),
        std=(0.3081,),
    )


def _idx_file(folder: Path, name: str) -> Path | None:
    return next((file for file in (folder / name, folder / f"{name}.gz") if file.is_file()), None)


def _unzipped(file: Path) -> torch.Tensor:
    # Kept, because a deployed client is a new process for each message and would unzip them in every one.
    key = hashlib.sha256(b"idx, unzipped, 1" + file.read_bytes()).hexdigest()
    return kept_tensor(None, key, lambda: torch.from_numpy(read_idx(file)))


def read_idx(file: Path) -> npt.NDArray[np.uint8]:
    """Read an idx file of bytes: two zeros, type, rank, the big-endian sizes, then the elements.

    Raises:
        ValueError: not an idx file of bytes, or shorter or longer than its header says.
    """
    try:
        content = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"{file} is damaged or truncated ({error}); fetch it again") from error
    if len(content) < 4 or content[:2] != b"\0\0" or content[2] != IDX_UINT8:
        raise ValueError(f"{file} is no idx file of bytes; fetch it again")
    rank = content[3]
    shape = np.frombuffer(content[4 : 4 + 4 * rank].ljust(4 * rank, b"\0"), dtype=">u4").astype(np.int64)
    elements = content[4 + 4 * rank :]
    if len(elements) != shape.prod():
        raise ValueError(f"{file} holds {len(elements)} elements, its header says {shape.prod()}; fetch it again")
    # A copy: torch wants writable memory.
    return np.frombuffer(elements, dtype=np.uint8).reshape(shape).copy()


@data_set("cifar10", uses=())
def cifar10(source: DataSource) -> DataSet:
    """50,000 + 10,000 colour images of 32x32 pixels from `root`/cifar-10-batches-py, ten classes.

    Raises:
        FileNotFoundError: the folder is missing and `download` is off, or cannot be fetched.
        ValueError: a file is damaged.
    """
    train, test, names = _read_cifar(source, "CIFAR10", "cifar-10-batches-py")
    return DataSet("cifar10", train, test, names, CIFAR10_MEAN, CIFAR10_STD)


@data_set("cifar100", uses=())
def cifar100(source: DataSource) -> DataSet:
    """50,000 + 10,000 colour images of 32x32 pixels from `root`/cifar-100-python, a hundred classes.

    Normalised by its own statistics; the reference uses those of CIFAR-10 here as well.

    Raises:
        FileNotFoundError: the folder is missing and `download` is off, or cannot be fetched.
        ValueError: a file is damaged.
    """
    train, test, names = _read_cifar(source, "CIFAR100", "cifar-100-python")
    return DataSet("cifar100", train, test, names, CIFAR100_MEAN, CIFAR100_STD)


def _read_cifar(source: DataSource, class_name: str, folder_name: str) -> tuple[Split, Split, tuple[str, ...]]:
    from torchvision import datasets  # slow to import

    root = source.folder()
    reader: type[CIFAR10] = getattr(datasets, class_name)
    if not source.download and not (root / folder_name).is_dir():
        raise FileNotFoundError(
            f"data set {source.name!r}: put the folder {folder_name} into {root} (data.download = true would fetch it)"
        )
    splits: list[Split] = []
    names: tuple[str, ...] = ()
    try:
        for train in (True, False):  # one after the other: each is in memory twice while it is read
            with fetching(source, reader.filename, f"unpack it into {root}") if source.download else nullcontext():
                part = reader(str(root), train=train, download=source.download)
            names = tuple(part.classes)
            splits.append(Split(_channels_first(part.data), torch.tensor(part.targets, dtype=torch.int64)))
    except RuntimeError as error:  # torchvision's word for a missing file or a wrong md5 sum
        raise ValueError(
            f"data set {source.name!r}: a file in {root / folder_name} is missing or damaged; "
            "delete the folder and set data.download = true"
        ) from error
    return splits[0], splits[1], names


def _channels_first(images: npt.NDArray[np.uint8]) -> torch.Tensor:
    chw = images.transpose(0, 3, 1, 2)  # [N, H, W, 3] -> [N, 3, H, W]
    return torch.from_numpy(np.ascontiguousarray(chw))


@data_set("cifar10-subset", uses=("path",))
def cifar10_subset(source: DataSource) -> DataSet:
    """The first 932 images of each of CIFAR-10's six files, exact pixels: 4,660 + 932 samples.

    Read from `path`, or from `root`/CIFAR10/cifar10_lossless_first932_per_batch.npz.

    Raises:
        FileNotFoundError: the file is missing.
        ValueError: it is damaged.
    """
    file = expanded(source.path) if source.path else source.folder() / CIFAR10_SUBSET
    if not file.is_file():
        raise FileNotFoundError(
            f"data set 'cifar10-subset': put the file {file.name} into {file.parent} "
            "(data.download = true cannot fetch it, but fetches the whole set under data.name = 'cifar10')"
        )
    train, test = read_npz(file)
    if test is None:
        raise ValueError(f"{file} has no test part: x_test and y_test are needed")
    return DataSet("cifar10-subset", train, test, CIFAR10_CLASSES, CIFAR10_MEAN, CIFAR10_STD)
