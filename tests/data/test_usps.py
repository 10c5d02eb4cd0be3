"""USPS: small files in LIBSVM's layout, refusals, and the real files where there are any."""

from __future__ import annotations

import bz2
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from fedhpro_flwr.data import DataSource, load, usps
from fedhpro_flwr.data.usps import read_libsvm

REAL = Path(os.environ.get("FEDHPRO_DATA_DIR") or Path(__file__).parents[2] / ".." / "shared" / "data")


def line(label: int, values: np.ndarray) -> str:
    return f"{label} " + " ".join(f"{i}:{value:.6f}" for i, value in enumerate(values, start=1)) + " \n"


def write(file: Path, text: str) -> Path:
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(bz2.compress(text.encode()))
    return file


def test_files_are_read_once_and_again_when_they_are_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("usps.bz2", "usps.t.bz2"):
        write(tmp_path / name, line(4, np.linspace(-1, 1, 256)))
    first = load(DataSource(name="usps", root=str(tmp_path))).train
    read = []
    monkeypatch.setattr(usps, "read_libsvm", lambda file: read.append(file.name) or read_libsvm(file))
    again = load(DataSource(name="usps", root=str(tmp_path))).train
    assert torch.equal(first.inputs, again.inputs) and torch.equal(first.labels, again.labels) and not read
    write(tmp_path / "usps.bz2", line(5, np.linspace(1, -1, 256)))
    assert load(DataSource(name="usps", root=str(tmp_path))).train.labels.tolist() == [4] and read == ["usps.bz2"]


def test_usps_by_hand(tmp_path: Path) -> None:
    first = np.full(256, -1.0)
    first[[0, 17, 255]] = (1.0, 0.0, 0.5)  # pixels (0, 0), (1, 1) and (15, 15)
    write(tmp_path / "USPS" / "usps.bz2", line(10, first) + line(1, -first))
    write(tmp_path / "usps.t.bz2", line(3, first))
    loaded = load(DataSource(name="usps", root=str(tmp_path)))
    images = loaded.train.inputs
    assert (images.shape, images.dtype, loaded.test.inputs.shape) == ((2, 1, 16, 16), torch.uint8, (1, 1, 16, 16))
    # 127.5 and 191.25 are cut off, as torchvision does
    assert [int(images[0, 0, i, i]) for i in (0, 1, 2, 15)] == [255, 127, 0, 191]
    assert (loaded.train.labels.tolist(), loaded.test.labels.tolist()) == ([9, 0], [2])
    assert loaded.class_names == tuple("0123456789")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty; it needs lines of a label and 256 pixels"),
        ("1 1:0.5 2:0.5\n", "needs lines of a label and 256 pixels"),
        (line(1, np.zeros(256)) + "2 1:0.5\n", "needs lines of a label and 256 pixels"),
        (line(1, np.zeros(256)).replace("7:0.0", "7:zero"), "needs lines of a label and 256 pixels"),
        (line(1, np.zeros(256)).replace(" 1:", " 9:") * 2, "needs lines of a label and 256 pixels"),
        (line(0, np.zeros(256)), r"needs labels in 1\.\.10"),
        (line(11, np.zeros(256)), r"needs labels in 1\.\.10"),
        (line(1, np.full(256, 1.5)), r"pixels in \[-1, 1\]"),
        (line(1, np.full(256, np.nan)), r"pixels in \[-1, 1\]"),
    ],
)
@pytest.mark.filterwarnings("error")
def test_usps_refuses(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=rf"usps\.bz2 .*{message}"):
        read_libsvm(write(tmp_path / "usps.bz2", text))


def test_truncated_usps_is_named(tmp_path: Path) -> None:
    file = write(tmp_path / "usps.bz2", line(1, np.linspace(-1, 1, 256)) * 50)
    file.write_bytes(file.read_bytes()[:-20])
    with pytest.raises(
        ValueError, match=r"usps\.bz2 is damaged or truncated .*; delete it and set data\.download = true$"
    ):
        read_libsvm(file)


def test_missing_usps_says_what_to_put_where(tmp_path: Path) -> None:
    write(tmp_path / "USPS" / "usps.bz2", line(1, np.zeros(256)))
    with pytest.raises(FileNotFoundError, match=r"'usps': put usps\.t\.bz2 into .*USPS \(data\.download = true"):
        load(DataSource(name="usps", root=str(tmp_path)))


@pytest.mark.skipif(not (REAL / "USPS").is_dir(), reason=f"no USPS in {REAL}")
def test_real_usps_equals_torchvision() -> None:
    from torchvision.datasets import USPS

    loaded = load(DataSource(name="usps", root=str(REAL)))
    assert (len(loaded.train), len(loaded.test), loaded.input_shape) == (7291, 2007, (1, 16, 16))
    assert np.bincount(loaded.train.labels).tolist() == [1194, 1005, 731, 658, 652, 556, 664, 645, 542, 644]
    assert np.bincount(loaded.test.labels).tolist() == [359, 264, 198, 166, 200, 160, 170, 147, 166, 177]
    theirs = USPS(str(REAL / "USPS"), train=False)
    np.testing.assert_array_equal(loaded.test.inputs[:, 0], theirs.data)
    assert loaded.test.labels.tolist() == theirs.targets
