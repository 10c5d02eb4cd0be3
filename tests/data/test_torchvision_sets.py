"""MNIST and CIFAR: tiny made-up files, refusals, and the real files where there are any."""

from __future__ import annotations

import gzip
import os
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from fedhpro_flwr.data import DataSource, load, torchvision_sets
from fedhpro_flwr.data.torchvision_sets import MNIST_FILES, read_idx

REAL = Path(os.environ.get("FEDHPRO_DATA_DIR") or Path(__file__).parents[2] / ".." / "shared" / "data")


def idx(array: np.ndarray) -> bytes:
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


@pytest.fixture
def tiny_mnist(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for name, shape in zip(MNIST_FILES, ((6, 28, 28), (6,), (3, 28, 28), (3,)), strict=True):
        array = rng.integers(0, 10, shape, dtype=np.uint8)
        (raw / f"{name}.gz").write_bytes(gzip.compress(idx(array)))
    return tmp_path


def test_mnist_is_read_zipped_and_unzipped(tiny_mnist: Path) -> None:
    zipped = load(DataSource(name="mnist", root=str(tiny_mnist)))
    assert zipped.train.inputs.shape == (6, 1, 28, 28)
    assert (zipped.train.inputs.dtype, zipped.train.labels.dtype) == (torch.uint8, torch.int64)
    assert (zipped.num_classes, zipped.mean, zipped.std) == (10, (0.1307,), (0.3081,))
    raw = tiny_mnist / "MNIST" / "raw"
    for name in MNIST_FILES:
        (raw / name).write_bytes(gzip.decompress((raw / f"{name}.gz").read_bytes()))
        (raw / f"{name}.gz").unlink()
    unzipped = load(DataSource(name="mnist", root=str(tiny_mnist)))
    assert torch.equal(zipped.test.inputs, unzipped.test.inputs)
    assert torch.equal(zipped.train.labels, unzipped.train.labels)


def test_mnist_is_unzipped_once(tiny_mnist: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = load(DataSource(name="mnist", root=str(tiny_mnist)))
    monkeypatch.setattr(torchvision_sets, "read_idx", lambda file: pytest.fail(f"{file} was read again"))
    again = load(DataSource(name="mnist", root=str(tiny_mnist)))
    assert torch.equal(first.train.inputs, again.train.inputs) and torch.equal(first.test.labels, again.test.labels)


def test_missing_mnist_file_says_what_to_put_where(tiny_mnist: Path) -> None:
    (tiny_mnist / "MNIST" / "raw" / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(FileNotFoundError, match=r"t10k-labels-idx1-ubyte or .* into .*MNIST.raw \(data.download"):
        load(DataSource(name="mnist", root=str(tiny_mnist)))


def test_truncated_mnist_file_is_named(tiny_mnist: Path) -> None:
    file = tiny_mnist / "MNIST" / "raw" / "train-images-idx3-ubyte.gz"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(ValueError, match=r"train-images-idx3-ubyte\.gz is damaged or truncated"):
        load(DataSource(name="mnist", root=str(tiny_mnist)))


def test_read_idx_by_hand_and_refusals(tmp_path: Path) -> None:
    file = tmp_path / "a"
    file.write_bytes(bytes([0, 0, 8, 2, 0, 0, 0, 2, 0, 0, 0, 3, 1, 2, 3, 4, 5, 6]))
    np.testing.assert_array_equal(read_idx(file), [[1, 2, 3], [4, 5, 6]])
    for content, message in (
        (b"", "no idx file"),
        (b"\x89PNG and more", "no idx file"),
        (bytes([0, 0, 13, 1, 0, 0, 0, 0]), "no idx file"),
        (bytes([0, 0, 8, 2, 0, 0, 0, 2, 0, 0, 0, 3, 1, 2]), "holds 2 elements, its header says 6"),
        (bytes([0, 0, 8, 1, 0, 0, 0, 2, 1, 2, 3]), "holds 3 elements, its header says 2"),
    ):
        file.write_bytes(content)
        with pytest.raises(ValueError, match=message):
            read_idx(file)


@pytest.mark.parametrize(("name", "folder"), [("cifar10", "cifar-10-batches-py"), ("cifar100", "cifar-100-python")])
def test_missing_cifar_says_what_to_put_where(name: str, folder: str, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=rf"put the folder {folder} into .*data\.download = true would fetch"):
        load(DataSource(name=name, root=str(tmp_path)))


def test_damaged_cifar_is_refused(tmp_path: Path) -> None:
    (tmp_path / "cifar-10-batches-py").mkdir()
    (tmp_path / "cifar-10-batches-py" / "data_batch_1").write_bytes(b"not a batch")
    with pytest.raises(ValueError, match=r"'cifar10': a file in .*cifar-10-batches-py is missing or damaged"):
        load(DataSource(name="cifar10", root=str(tmp_path)))


@pytest.mark.parametrize(("name", "classes"), [("cifar10", 10), ("cifar100", 100)])
def test_cifar_arrays_become_splits(name: str, classes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from torchvision import datasets

    class Reader:  # stands in for torchvision's class, whose files are checked against their md5 sums
        filename = "archive.tar.gz"

        def __init__(self, root: str, train: bool, download: bool) -> None:
            assert root == str(tmp_path) and download
            count = 5 if train else 2
            self.data = np.arange(count * 32 * 32 * 3, dtype=np.uint32).astype(np.uint8).reshape(count, 32, 32, 3)
            self.targets = list(range(count))
            self.classes = [f"class {c}" for c in range(classes)]

    monkeypatch.setattr(datasets, name.upper(), Reader)
    loaded = load(DataSource(name=name, root=str(tmp_path), download=True))
    assert (loaded.num_classes, loaded.input_shape, len(loaded.train), len(loaded.test)) == (classes, (3, 32, 32), 5, 2)
    assert loaded.train.inputs[0, :, 0, 0].tolist() == [0, 1, 2]  # the three channels of the first pixel
    assert loaded.train.inputs.is_contiguous()


@pytest.mark.parametrize("error", [OSError("no route"), RuntimeError("Error downloading")])
@pytest.mark.parametrize(
    ("name", "what"), [("mnist", "MNIST"), ("cifar10", "cifar-10-python"), ("cifar100", "cifar-100-python")]
)
def test_download_that_fails_names_the_data_set(
    name: str, what: str, error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torchvision import datasets

    def refuse(*_args: object, **_options: object) -> None:
        raise error

    monkeypatch.setattr(getattr(datasets, name.upper()), "download", refuse)
    with pytest.raises(FileNotFoundError, match=rf"'{name}': {what}.* cannot be fetched \({error}\); .*{tmp_path}"):
        load(DataSource(name=name, root=str(tmp_path), download=True))


def test_missing_subset_says_what_to_put_where(tmp_path: Path) -> None:
    with pytest.raises(
        FileNotFoundError, match=r"put the file cifar10_lossless_first932_per_batch\.npz into .*CIFAR10"
    ):
        load(DataSource(name="cifar10-subset", root=str(tmp_path)))


def test_mnist_needs_no_torchvision(tiny_mnist: Path) -> None:
    code = (
        "import sys; from fedhpro_flwr.data import DataSource, load; "
        f"load(DataSource(name='mnist', root={str(tiny_mnist)!r})); "
        "print([m for m in ('torchvision', 'sklearn', 'PIL', 'flwr') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2]
    )
    assert done.stdout.strip() == "[]"


@pytest.mark.skipif(not (REAL / "MNIST" / "raw").is_dir(), reason=f"no MNIST in {REAL}")
def test_real_mnist() -> None:
    loaded = load(DataSource(name="mnist", root=str(REAL)))
    assert (len(loaded.train), len(loaded.test), loaded.input_shape) == (60_000, 10_000, (1, 28, 28))
    counts = np.bincount(loaded.train.labels).tolist()
    assert counts == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    test_counts = np.bincount(loaded.test.labels).tolist()
    assert test_counts == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    scaled = loaded.train.inputs.double() / 255
    assert (round(float(scaled.mean()), 4), round(float(scaled.std()), 4)) == (loaded.mean[0], loaded.std[0])


@pytest.mark.skipif(not (REAL / "CIFAR10").is_dir(), reason=f"no CIFAR10 in {REAL}")
def test_real_cifar10_subset() -> None:
    loaded = load(DataSource(name="cifar10-subset", root=str(REAL)))
    assert (len(loaded.train), len(loaded.test), loaded.input_shape) == (4660, 932, (3, 32, 32))
    assert loaded.class_names[6] == "frog" and int(loaded.train.labels[0]) == 6  # CIFAR-10 starts with a frog
    assert loaded.train.inputs[0, :, 0, 0].tolist() == [59, 62, 63]
    assert loaded.train.inputs[0, :, 0, 1].tolist() == [43, 46, 45]
    assert (loaded.mean, loaded.std) == ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010))
