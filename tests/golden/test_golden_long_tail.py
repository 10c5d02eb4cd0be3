"""The long tail against the reference's class counts."""

from __future__ import annotations

import re

import numpy as np

from fedhpro_flwr.data.long_tail import long_tail_counts

GOLDEN = "longtail_counts*.npz"


def test_counts(golden):
    keys = [key for key in golden.arrays if not key.endswith("_imb")]
    assert keys
    for key in keys:
        match = re.fullmatch(r"C(\d+)_n(\d+)_rho([\d.]+)", key)
        assert match is not None, key
        num_classes, largest, imbalance = int(match[1]), int(match[2]), float(match[3])
        assert 1 / imbalance == golden.number(f"{key}_imb")
        np.testing.assert_array_equal(long_tail_counts(largest, num_classes, imbalance), golden.arrays[key], key)
