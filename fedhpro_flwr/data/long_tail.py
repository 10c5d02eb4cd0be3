"""The long tail: class counts fall exponentially from the first class to the last by a factor rho.

n_c = trunc(n_max * (1/rho) ** (c / (C-1))),   n_max = samples / C,   c = 0 .. C-1
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fedhpro_flwr.data.data_set import IndexArray


def long_tail_counts(largest: float, num_classes: int, imbalance: float) -> IndexArray:
    """Samples to keep of each class.

    Args:
        largest: n_max, samples of the first class.
        num_classes: C.
        imbalance: rho >= 1; 1 keeps n_max of every class.

    Returns:
        Counts [C], non-increasing.
    """
    # One power at a time and truncated, like the reference: a vectorised one may round the other way at whole numbers.
    factor = 1 / imbalance
    last = max(num_classes - 1, 1)
    return np.array([int(largest * factor ** (c / last)) for c in range(num_classes)], dtype=np.int64)


def long_tail(labels: IndexArray, num_classes: int, imbalance: float, seed: int) -> IndexArray:
    """Choose the samples of the long tail: each class shuffled, its first n_c samples kept.

    The draws are those of the reference: NumPy's legacy generator, one shuffle a class in class order. A
    class with fewer than n_c samples keeps what it has; rho = 1 keeps every sample.

    Args:
        labels: class ids [N].
        num_classes: C.
        imbalance: rho >= 1.
        seed: 0 .. 2**32 - 1.

    Returns:
        Kept sample ids, class after class.
    """
    counts = long_tail_counts(len(labels) / num_classes, num_classes, imbalance)
    random = np.random.RandomState(seed)
    kept = []
    for c in range(num_classes):
        members = np.flatnonzero(labels == c).astype(np.int64)
        random.shuffle(members)
        kept.append(members if imbalance == 1 else members[: counts[c]])
    return np.concatenate(kept)


def class_groups(
    train_counts_per_class: Sequence[int] | IndexArray,
) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    """Head, medium and tail classes: the classes by falling training count, cut into thirds by rank.

    If C is no multiple of three the head, then the medium group, is one larger (C = 10: 4, 3, 3). Equal
    counts are ranked by class id, so balanced data has groups as well.

    Args:
        train_counts_per_class: counts [C] over all clients.

    Returns:
        Three tuples of class ids, each by falling count.
    """
    counts = np.asarray(train_counts_per_class)
    ranked = np.argsort(-counts, kind="stable")
    head, medium, tail = (tuple(int(c) for c in group) for group in np.array_split(ranked, 3))
    return head, medium, tail
