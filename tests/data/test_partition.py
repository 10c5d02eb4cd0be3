"""The four schemes by hand and by brute force, their refusals, and the split of the test data."""

from __future__ import annotations

import hashlib
import struct

import numpy as np
import pytest

from fedhpro_flwr.data import nid1
from fedhpro_flwr.data.long_tail import long_tail
from fedhpro_flwr.data.nid1 import _open_shares
from fedhpro_flwr.data.partition import Partition, PartitionPlan, partition, split_test

LABELS = np.random.default_rng(5).integers(0, 6, 600)


def test_iid_is_near_equal():
    sizes = [len(ids) for ids in partition(LABELS, 6, PartitionPlan(scheme="iid", num_partitions=7)).indices]
    assert sorted(sizes, reverse=True) == [86, 86, 86, 86, 86, 85, 85]


def test_dirichlet_by_a_loop_over_its_draws():
    result = partition(LABELS, 6, PartitionPlan(scheme="dirichlet", num_partitions=4, alpha=1.0), seed=3)
    rng = np.random.default_rng(3)
    kept = long_tail(LABELS, 6, 1.0, 3)
    shuffled = [rng.permutation(np.array([i for i in kept if LABELS[i] == c])) for c in range(6)]
    clients: list[list[int]] = [[] for _ in range(4)]
    for members in shuffled:
        share, start, total = rng.dirichlet([1.0] * 4), 0, 0.0
        for k in range(4):
            total += share[k]
            stop = len(members) if k == 3 else int(total * len(members))
            clients[k] += members[start:stop].tolist()
            start = stop
    assert [ids.tolist() for ids in result.indices] == clients


def test_dirichlet_redraws_until_every_client_has_enough():
    plan = PartitionPlan(scheme="dirichlet", num_partitions=10, alpha=0.1, min_samples=15)
    assert min(len(ids) for ids in partition(LABELS, 6, plan, seed=1).indices) >= 15
    with pytest.raises(
        ValueError, match=r"1000 draws with partition\.alpha = 0\.01 left one of 10 clients with fewer than"
    ):
        partition(LABELS, 6, PartitionPlan(scheme="dirichlet", num_partitions=10, alpha=0.01, min_samples=50))


def test_quantity_by_a_loop_over_its_draws():
    result = partition(LABELS, 6, PartitionPlan(scheme="quantity", num_partitions=4, alpha=1.0), seed=3)
    rng = np.random.default_rng(3)
    order = rng.permutation(long_tail(LABELS, 6, 1.0, 3)).tolist()
    share, start, total, clients = rng.dirichlet([1.0] * 4), 0, 0.0, []
    for k in range(4):
        total += share[k]
        stop = 600 if k == 3 else int(total * 600)
        clients.append(order[start:stop])
        start = stop
    assert [ids.tolist() for ids in result.indices] == clients


@pytest.mark.parametrize("scheme", ["dirichlet", "quantity"])
def test_a_client_may_have_exactly_the_fewest_samples(scheme):
    result = partition([0, 0], 1, PartitionPlan(scheme=scheme, num_partitions=2, alpha=10.0, min_samples=1))
    assert [len(ids) for ids in result.indices] == [1, 1]


def test_dirichlet_is_more_skewed_for_a_smaller_alpha():
    labels = np.arange(4000) % 10

    def largest_share(alpha: float) -> float:
        counts = partition(labels, 10, PartitionPlan(scheme="dirichlet", num_partitions=10, alpha=alpha)).class_counts(
            labels, 10
        )
        return float((counts.max(axis=1) / counts.sum(axis=1)).mean())

    assert largest_share(0.1) > largest_share(1.0) > largest_share(100.0)
    assert largest_share(1e6) == pytest.approx(0.1, abs=0.01)  # every client like the whole


@pytest.mark.parametrize(("clients", "per_client"), [(5, 2), (10, 2), (3, 2), (7, 3), (4, 6), (20, 1), (2, 2)])
def test_shards_deals_classes_evenly(clients, per_client):
    plan = PartitionPlan(scheme="shards", num_partitions=clients, classes_per_client=per_client)
    held = partition(LABELS, 6, plan, seed=clients).class_counts(LABELS, 6) > 0
    assert (held.sum(axis=1) == per_client).all()
    holders = held.sum(axis=0)
    assert holders.max() - holders.min() <= 1
    assert (holders.min() >= 1) == (clients * per_client >= 6)


def test_shards_divides_a_class_evenly_among_its_holders():
    counts = partition(LABELS, 6, PartitionPlan(scheme="shards", num_partitions=9, classes_per_client=2)).class_counts(
        LABELS, 6
    )
    for column, total in zip(counts.T, np.bincount(LABELS), strict=True):
        shares = column[column > 0]
        assert shares.sum() == total and shares.max() - shares.min() <= 1


def test_shards_with_a_missing_class():
    labels = np.array([0, 2] * 10)
    counts = partition(labels, 3, PartitionPlan(scheme="shards", num_partitions=2, classes_per_client=2)).class_counts(
        labels, 3
    )
    assert counts.tolist() == [[5, 0, 5], [5, 0, 5]]
    with pytest.raises(ValueError, match=r"classes-per-client = 3, but only 2 of the 3 classes have samples"):
        partition(labels, 3, PartitionPlan(scheme="shards", num_partitions=2, classes_per_client=3))


@pytest.mark.parametrize("clients", [10, 11, 15, 20, 37])
def test_nid1_gives_equal_sizes(clients):
    sizes = [
        len(ids)
        for ids in partition(LABELS, 6, PartitionPlan(scheme="nid1", num_partitions=clients), seed=clients).indices
    ]
    assert sum(sizes) == 600 and max(sizes) - min(sizes) <= 1


def test_nid1_leaves_no_sample_out_where_chunks_do_not_divide_them():
    """Two chunks of int(101 / 2) hold 100 of 101 samples."""
    divided = partition(LABELS[:101], 6, PartitionPlan(scheme="nid1", num_partitions=20))
    assert sorted(np.concatenate(divided.indices)) == list(range(101))


def test_nid1_divides_a_chunk_for_each_ten_clients_and_the_last_for_the_rest(monkeypatch):
    widths, fill = [], nid1._fill_bins
    monkeypatch.setattr(nid1, "_fill_bins", lambda *given: widths.append((len(given[0]), given[3])) or fill(*given))
    partition(LABELS, 6, PartitionPlan(scheme="nid1", num_partitions=23))
    assert widths == [(260, 10), (260, 10), (80, 3)]


def test_nid1_bins_over_their_fair_share_get_nothing():
    random = np.random.RandomState(0)
    is_open = np.array([True, False, True, False])
    for _ in range(100):
        shares = _open_shares(0.5, is_open, random)
        assert (shares[~is_open] == 0).all() and shares.sum() == pytest.approx(1, abs=1e-12)


def test_nid1_draws_again_where_all_mass_fell_on_full_bins():
    # At this alpha one bin takes all: most draws give the single open bin exactly nothing.
    shares = _open_shares(1e-3, np.array([True] + [False] * 9), np.random.RandomState(0))
    assert shares.tolist() == [1.0] + [0.0] * 9
    # No bin is open: only classes without samples are left, any shares will do, but no endless loop.
    assert _open_shares(1.0, np.zeros(4, bool), np.random.RandomState(0)).tolist() == [0.25] * 4


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"scheme": "nid2"}, r"scheme\n  .*'iid', 'dirichlet', 'nid1', 'shards', 'quantity', 'domains' or 'nodes'"),
        ({"num_partitions": 0}, r"num_partitions\n  .* greater than or equal to 1"),
        ({"alpha": 0.0}, r"alpha\n  .* greater than 0"),
        ({"alpha": -1.0}, "alpha"),
        ({"alpha": float("nan")}, "alpha"),
        ({"alpha": float("inf")}, "alpha"),
        ({"imbalance": 0.5}, r"imbalance\n  .* greater than or equal to 1"),
        ({"imbalance": float("nan")}, "imbalance"),
        ({"classes_per_client": 0}, "classes_per_client"),
        ({"min_samples": 0}, "min_samples"),
    ],
)
def test_plan_refuses(values, message):
    with pytest.raises(ValueError, match=message):
        PartitionPlan(**({"scheme": "iid", "num_partitions": 2} | values))


@pytest.mark.parametrize(
    ("plan", "message"),
    [
        (
            PartitionPlan(scheme="iid", num_partitions=601),
            r"num-partitions = 601, but there are only 600 training samples",
        ),
        (PartitionPlan(scheme="iid", num_partitions=300, imbalance=50.0), "but there are only 180 training samples"),
        (
            PartitionPlan(scheme="iid", num_partitions=100, min_samples=7),
            r"client 0 gets 6 samples, but partition.min-samples = 7",
        ),
        (
            PartitionPlan(scheme="shards", num_partitions=5, classes_per_client=7),
            "classes-per-client = 7, but there are 6 classes",
        ),
        (PartitionPlan(scheme="nid1", num_partitions=9), r"'nid1' needs at least 10 clients, got 9"),
    ],
)
def test_partition_refuses(plan, message):
    with pytest.raises(ValueError, match=message):
        partition(LABELS, 6, plan)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([0.0, 1.0], "whole numbers"),
        ([[0, 1]], "whole numbers"),
        ([0, -1], r"found -1\.\.0"),
        ([0, 2], r"found 0\.\.2"),
    ],
)
def test_bad_labels_are_refused(labels, message):
    with pytest.raises(ValueError, match=message):
        partition(labels, 2, PartitionPlan(scheme="iid", num_partitions=1))
    with pytest.raises(ValueError, match=message):
        split_test(labels, np.ones((1, 2), np.int64), 0)


def of(*clients: list[int]) -> str:
    return Partition(tuple(np.array(ids, dtype=np.int64) for ids in clients)).fingerprint


def test_the_fingerprint_is_computed_once():
    parts = Partition((np.arange(3),))
    assert parts.fingerprint is parts.fingerprint


def test_fingerprint():
    assert of([0, 1], [2]) == of([0, 1], [2])
    others = [of([0], [1, 2]), of([1, 0], [2]), of([2], [0, 1]), of([0, 1], [3]), of([0, 1, 2])]
    assert len({of([0, 1], [2]), *others}) == 6
    # The same on every machine: SHA-256 of length and ids of each client, eight bytes each, little-endian.
    assert of([0, 1], [2]) == hashlib.sha256(struct.pack("<5q", 2, 0, 1, 1, 2)).hexdigest()[:16]


def test_nid1_gives_up_on_a_tiny_alpha(monkeypatch):
    monkeypatch.setattr("fedhpro_flwr.data.nid1.MAX_RESTARTS", 50)
    with pytest.raises(ValueError, match=r"alpha = 0\.001 is too small"):
        partition(LABELS, 6, PartitionPlan(scheme="nid1", num_partitions=10, alpha=1e-3))


def test_class_counts_by_hand():
    result = Partition((np.array([0, 3]), np.array([1, 2])))
    assert result.class_counts(np.array([0, 2, 2, 0]), 3).tolist() == [[2, 0, 0], [0, 0, 2]]


def test_split_test_by_hand():
    counts = np.array([[1, 0], [3, 0]])  # class 1 has no trainer: its test samples go to nobody
    first, second = split_test([0, 0, 0, 0, 0, 0, 0, 0, 1, 1], counts, seed=0)
    assert (len(first), len(second)) == (2, 6)
    assert sorted([*first, *second]) == list(range(8))


def test_split_test_by_largest_remainders():
    # 10 samples in proportion 5 : 3 : 3 are 4.54, 2.73, 2.73: floors 4, 2, 2, the two left go to the larger remainders.
    parts = split_test(np.zeros(10, int), np.array([[5], [3], [3]]), seed=0)
    assert [len(part) for part in parts] == [4, 3, 3]


def test_split_test_follows_its_seed():
    counts = partition(LABELS, 6, PartitionPlan(scheme="dirichlet", num_partitions=4)).class_counts(LABELS, 6)
    first, again, other = (np.concatenate(split_test(LABELS, counts, seed)) for seed in (1, 1, 2))
    assert first.tolist() == again.tolist() != other.tolist()
