"""The reference's long tail and label skew, sample by sample."""

from __future__ import annotations

import numpy as np

from fedhpro_flwr.data.long_tail import long_tail
from fedhpro_flwr.data.partition import PartitionPlan, partition

GOLDEN = "partition_*.npz"


def _labels(golden) -> np.ndarray:
    num_classes = golden.integer("num_classes")
    return np.arange(num_classes * golden.integer("samples_per_class")) % num_classes


def test_long_tail_keeps_the_same_samples(golden):
    labels, num_classes = _labels(golden), golden.integer("num_classes")
    kept = long_tail(labels, num_classes, 1 / golden.number("imb_factor"), golden.integer("seed"))
    np.testing.assert_array_equal(kept, golden.arrays["kept_indices"])
    np.testing.assert_array_equal(np.bincount(labels[kept], minlength=num_classes), golden.arrays["class_counts"])


def test_nid1_gives_every_client_the_same_samples(golden):
    labels, num_classes = _labels(golden), golden.integer("num_classes")
    plan = PartitionPlan(
        scheme="nid1",
        num_partitions=golden.integer("num_clients"),
        alpha=golden.number("alpha"),
        imbalance=1 / golden.number("imb_factor"),
    )
    result = partition(labels, num_classes, plan, golden.integer("seed"))
    np.testing.assert_array_equal([len(ids) for ids in result.indices], golden.arrays["client_sizes"])
    np.testing.assert_array_equal(np.concatenate(result.indices), golden.arrays["client_indices"])
    np.testing.assert_array_equal(result.class_counts(labels, num_classes), golden.arrays["client_class_counts"])
