"""What every partition keeps: each kept sample exactly once, the counts, and the seed."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from hypothesis import assume, given
from hypothesis import strategies as st

from fedhpro_flwr.data.hold_out import hold_out
from fedhpro_flwr.data.long_tail import class_groups, long_tail, long_tail_counts
from fedhpro_flwr.data.partition import PartitionPlan, partition, split_test

SEEDS = st.integers(0, 2**32 - 1)


@st.composite
def problems(draw: st.DrawFn) -> tuple[np.ndarray, int, PartitionPlan, int]:
    """Labels, C, a plan that can be met, and a seed."""
    num_classes = draw(st.integers(2, 8))
    size = draw(st.integers(120, 400))
    labels = np.random.default_rng(draw(SEEDS)).integers(0, num_classes, size)
    assume(len(np.unique(labels)) == num_classes)
    scheme = draw(st.sampled_from(["iid", "dirichlet", "nid1", "shards"]))
    clients = draw(st.integers(10, 25) if scheme == "nid1" else st.integers(1, 12))
    per_client = draw(st.integers(-(-num_classes // clients), num_classes))  # every class is dealt
    plan = PartitionPlan(
        scheme=scheme,
        num_partitions=clients,
        alpha=draw(st.floats(0.3, 10)),
        classes_per_client=per_client,
        imbalance=draw(st.sampled_from([1.0, 1.5, 2.0])),
    )
    return labels, num_classes, plan, draw(SEEDS)


@given(problems())
def test_every_kept_sample_belongs_to_exactly_one_client(problem):
    labels, num_classes, plan, seed = problem
    result = partition(labels, num_classes, plan, seed)
    kept = long_tail(labels, num_classes, plan.imbalance, seed)
    assert len(result) == plan.num_partitions
    assert sorted(np.concatenate(result.indices)) == sorted(kept)
    assert len(set(kept.tolist())) == len(kept)
    assert min(len(ids) for ids in result.indices) >= plan.min_samples


@given(problems())
def test_counts_add_up(problem):
    labels, num_classes, plan, seed = problem
    result = partition(labels, num_classes, plan, seed)
    counts = result.class_counts(labels, num_classes)
    kept = long_tail(labels, num_classes, plan.imbalance, seed)
    np.testing.assert_array_equal(counts.sum(axis=0), np.bincount(labels[kept], minlength=num_classes))
    np.testing.assert_array_equal(counts.sum(axis=1), [len(ids) for ids in result.indices])
    for client, ids in enumerate(result.indices):
        for label in range(num_classes):
            assert counts[client, label] == sum(1 for i in ids if labels[i] == label)


@given(problems())
def test_the_seed_decides(problem):
    labels, num_classes, plan, seed = problem
    first, again = (partition(labels, num_classes, plan, seed) for _ in range(2))
    assert first.fingerprint == again.fingerprint
    assert all(np.array_equal(a, b) for a, b in zip(first.indices, again.indices, strict=True))
    assert partition(labels, num_classes, plan, (seed + 1) % 2**32).fingerprint != first.fingerprint


@given(problems(), st.integers(1, 200), SEEDS)
def test_test_data_follow_the_training_counts(problem, size, seed):
    labels, num_classes, plan, _ = problem
    counts = partition(labels, num_classes, plan, seed).class_counts(labels, num_classes)
    test_labels = np.random.default_rng(seed).integers(0, num_classes, size)
    parts = split_test(test_labels, counts, seed)
    given_away = np.concatenate(parts)
    trained = counts.sum(axis=0) > 0
    assert sorted(given_away) == np.flatnonzero(trained[test_labels]).tolist()
    for label in np.flatnonzero(trained):
        total = int((test_labels == label).sum())
        for client, part in enumerate(parts):
            share = int((test_labels[part] == label).sum())
            quota = counts[client, label] * total / counts[:, label].sum()
            assert abs(share - quota) < 1
            assert counts[client, label] > 0 or share == 0


@given(st.integers(1, 6000), st.integers(1, 60), st.floats(1, 500))
def test_long_tail_counts_fall_from_the_largest(largest, num_classes, imbalance):
    counts = long_tail_counts(largest, num_classes, imbalance)
    assert counts[0] == largest and (np.diff(counts) <= 0).all() and counts[-1] >= 0
    if num_classes > 1:
        assert abs(counts[-1] - largest / imbalance) <= 1 + 1e-9


@given(st.lists(st.integers(0, 50), min_size=1, max_size=40))
def test_groups_are_a_ranking_cut_in_three(counts):
    groups = class_groups(counts)
    ranked = [c for group in groups for c in group]
    assert sorted(ranked) == list(range(len(counts)))
    assert all(counts[a] >= counts[b] for a, b in pairwise(ranked))
    assert max(map(len, groups)) - min(map(len, groups)) <= 1


@given(st.lists(st.integers(0, 5), min_size=20, max_size=100), st.floats(0.1, 0.9), SEEDS)
def test_hold_out_is_a_split_by_class(values, share, seed):
    labels = np.array(values)
    assume(any(min(round(share * n), n - 1) > 0 for n in np.bincount(labels) if n))
    train, test = hold_out(labels, share, seed)
    assert sorted([*train, *test]) == list(range(len(labels)))
    for label in set(values):
        members = int((labels == label).sum())
        assert int((labels[test] == label).sum()) == min(round(share * members), members - 1)
