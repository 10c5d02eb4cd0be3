"""Counts by hand, the choice of samples, and the head, medium and tail groups."""

from __future__ import annotations

import numpy as np

from fedhpro_flwr.data.long_tail import class_groups, long_tail, long_tail_counts


def test_published_counts():
    assert long_tail_counts(5000, 10, 10).tolist() == [5000, 3871, 2997, 2320, 1796, 1391, 1077, 834, 645, 500]
    assert long_tail_counts(5000, 10, 50).tolist() == [5000, 3237, 2096, 1357, 878, 568, 368, 238, 154, 100]
    assert long_tail_counts(5000, 10, 100).tolist() == [5000, 2997, 1796, 1077, 645, 387, 232, 139, 83, 50]


def test_counts_by_hand():
    assert long_tail_counts(100, 3, 4).tolist() == [100, 50, 25]
    assert long_tail_counts(7, 4, 1).tolist() == [7, 7, 7, 7]
    assert long_tail_counts(7, 1, 5).tolist() == [7]  # one class: nothing to fall to


def test_kept_samples_by_a_loop_over_the_reference_draws():
    labels = np.random.default_rng(0).permutation(np.arange(60) % 3)
    kept = long_tail(labels, 3, 4.0, seed=11)
    random = np.random.RandomState(11)
    expected = []
    for label, count in enumerate((20, 10, 5)):
        members = [i for i in range(60) if labels[i] == label]
        random.shuffle(members)
        expected += members[:count]
    assert kept.tolist() == expected


def test_unbalanced_data():
    labels = np.array([0] * 2 + [1] * 10)  # n_max = 6
    assert np.bincount(labels[long_tail(labels, 2, 2.0, 0)]).tolist() == [2, 3]  # no more than there is
    assert sorted(long_tail(labels, 2, 1.0, 0).tolist()) == list(range(12))  # rho = 1 keeps all


def test_groups_by_hand():
    assert class_groups([5, 100, 7, 1, 50, 2]) == ((1, 4), (2, 0), (5, 3))
    assert class_groups([3] * 10) == ((0, 1, 2, 3), (4, 5, 6), (7, 8, 9))  # ties by class id
    thirds = class_groups([1, 2] * 50)  # more than NumPy sorts by insertion
    assert thirds[0] == tuple(range(1, 68, 2)) and thirds[2] == tuple(range(34, 100, 2))
    assert class_groups([1, 2]) == ((1,), (0,), ())
    assert class_groups(np.arange(11)) == ((10, 9, 8, 7), (6, 5, 4, 3), (2, 1, 0))
