"""SYN: small files in the original layout, and what is said where there are none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from fedhpro_flwr.data import DataSource, load


def test_syn_labels_are_the_digits(tmp_path: Path) -> None:
    (tmp_path / "SYN").mkdir()
    x = np.random.default_rng(0).integers(0, 256, (32, 32, 3, 10), dtype=np.uint8)
    savemat(tmp_path / "SYN" / "synth_train_32x32.mat", {"X": x, "y": np.arange(10, dtype=np.uint8)[:, None]})
    savemat(tmp_path / "SYN" / "synth_test_32x32.mat", {"X": x[..., 7:8], "y": np.array([[7.0]])})
    loaded = load(DataSource("syn", root=str(tmp_path)))
    assert (loaded.train.labels.tolist(), loaded.test.labels.tolist()) == (list(range(10)), [7])
    np.testing.assert_array_equal(loaded.train.inputs[7], x[..., 7].transpose(2, 0, 1))
    assert loaded.input_shape == (3, 32, 32) and loaded.class_names == tuple("0123456789")


def test_missing_syn_names_the_file_and_the_way_out(tmp_path: Path) -> None:
    with pytest.raises(
        FileNotFoundError, match=r"'syn': put synth_train_32x32\.mat into .*SYN .*'syn-rendered' .* needs no file"
    ):
        load(DataSource("syn", root=str(tmp_path), download=True))
