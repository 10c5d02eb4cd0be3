"""Domain skew and quantity skew."""

import numpy as np
import pytest
import torch

from fedhpro_flwr.data.data_set import DataSet, Split
from fedhpro_flwr.data.federation import divide as divided
from fedhpro_flwr.data.partition import PartitionPlan, partition

SIZES = {"mnist": 300, "usps": 100, "svhn": 60}
NAMES = tuple(SIZES)
DOMAINS = np.repeat(np.arange(3), list(SIZES.values()))
LABELS = np.arange(len(DOMAINS)) % 10


def divide(num_partitions, seed=0, **values):
    plan = PartitionPlan(scheme="domains", num_partitions=num_partitions, **values)
    return partition(LABELS, 10, plan, seed, domain_ids=DOMAINS, domain_names=NAMES)


def test_clients_stand_in_the_order_of_the_domains_with_their_share():
    result = divide(6, domain_clients="usps=3, mnist=2, svhn=1", domain_share=0.1)
    assert result.domains(DOMAINS) == (0, 0, 1, 1, 1, 2)
    assert [len(ids) for ids in result.indices] == [30, 30, 10, 10, 10, 6]
    drawn = np.concatenate(result.indices)
    assert len(set(drawn)) == len(drawn)


@pytest.mark.parametrize(("share", "samples"), [(0.29, 29), (0.57, 57), (0.296, 29)])
def test_a_share_is_rounded_down_but_not_by_the_error_of_floats(share, samples):
    assert [len(ids) for ids in divide(1, domain_clients="usps=1", domain_share=share).indices] == [samples]


def test_without_a_share_a_domain_is_divided_evenly():
    result = divide(5, domain_clients="mnist=2, usps=3")
    assert [len(ids) for ids in result.indices] == [150, 150, 33, 33, 33]
    assert result.domains(DOMAINS) == (0, 0, 1, 1, 1)


def test_without_counts_clients_are_dealt_evenly():
    assert divide(7).domains(DOMAINS) == (0, 0, 0, 1, 1, 2, 2)


def test_an_absolute_number_of_samples_goes_before_the_share():
    result = divide(3, domain_share=0.5, samples_per_client=12)
    assert [len(ids) for ids in result.indices] == [12, 12, 12]


@pytest.mark.parametrize("seed", range(5))
def test_every_class_of_the_domain_appears_at_each_client(seed):
    labels = np.where(DOMAINS == 2, np.r_[np.arange(300), np.arange(100), [7] * 4, np.arange(56) % 7] % 10, LABELS)
    plan = PartitionPlan(
        scheme="domains", num_partitions=4, domain_clients="svhn=4", samples_per_client=11, domain_classes="every"
    )
    result = partition(labels, 10, plan, seed, domain_ids=DOMAINS, domain_names=NAMES)
    for ids in result.indices:
        assert len(ids) == 11
        assert set(labels[ids]) == set(range(8))
    assert len(set(np.concatenate(result.indices))) == 44


@pytest.mark.parametrize(
    ("counts", "clients", "samples", "sentence"),
    [
        ([9, 1], 2, 3, "has 2 classes, the rarest with 1 samples, for 2 clients with 3 samples each"),
        ([4, 4, 4], 2, 2, "has 3 classes, the rarest with 4 samples, for 2 clients with 2 samples each"),
    ],
)
def test_a_class_too_rare_or_a_client_too_small_for_every_class_is_refused(counts, clients, samples, sentence):
    labels = np.repeat(np.arange(len(counts)), counts)
    plan = PartitionPlan(scheme="domains", num_partitions=clients, samples_per_client=samples, domain_classes="every")
    with pytest.raises(ValueError, match=sentence):
        partition(labels, 3, plan, domain_ids=np.zeros_like(labels), domain_names=("one",))


def test_a_client_of_as_many_samples_as_classes_has_one_of_each():
    labels = np.repeat(np.arange(3), [5, 2, 7])
    plan = PartitionPlan(scheme="domains", num_partitions=2, samples_per_client=3, domain_classes="every")
    result = partition(labels, 3, plan, domain_ids=np.zeros_like(labels), domain_names=("one",))
    assert result.class_counts(labels, 3).tolist() == [[1, 1, 1], [1, 1, 1]]


def some_data(test_domains):
    """Twelve training samples, domain and class in turn, and a test sample of class 0 of each given domain."""
    train = Split(torch.zeros(12, 1), torch.tensor([0, 0, 1, 1] * 3), torch.tensor([0, 1] * 6))
    test = Split(torch.zeros(len(test_domains), 1), torch.zeros(len(test_domains)).long(), torch.tensor(test_domains))
    return DataSet("two", train, test, ("a", "b"), domain_names=("left", "right"))


def test_clients_are_named_by_their_one_domain():
    found = divided(some_data([0, 1]), PartitionPlan(scheme="domains", num_partitions=2), 0)
    assert found.client_domains() == ("left", "right")
    assert divided(some_data([0, 1]), PartitionPlan(scheme="iid", num_partitions=1), 0).client_domains() == ("",)


def test_a_client_is_tested_on_samples_of_its_own_domain_and_on_none_if_there_are_none():
    plan = PartitionPlan(scheme="domains", num_partitions=2)
    both = divided(some_data([0, 1, 1]), plan, 0)
    assert [both.client(client).test.domains.tolist() for client in range(2)] == [[0], [1, 1]]
    left_alone = divided(some_data([0]), plan, 0)
    assert left_alone.client(0).test.domains.tolist() == [0] and left_alone.client(1).test is None


def test_the_long_tail_comes_first():
    plan = PartitionPlan(scheme="domains", num_partitions=3, imbalance=10.0)
    result = partition(LABELS, 10, plan, domain_ids=DOMAINS, domain_names=NAMES)
    counts = result.class_counts(LABELS, 10).sum(0)
    assert counts[0] > 5 * counts[9] > 0


def test_a_client_of_several_domains_has_none_of_its_own():
    result = partition(
        LABELS, 10, PartitionPlan(scheme="iid", num_partitions=3), domain_ids=DOMAINS, domain_names=NAMES
    )
    assert result.domains(DOMAINS) == (None, None, None)
    assert result.domains(None) == (None, None, None)


@pytest.mark.parametrize(
    ("clients", "values", "sentence"),
    [
        (
            3,
            {"domain_clients": "mnist=2, usps=2"},
            "gives 4 clients, but partition.num-partitions = 3; make them equal",
        ),
        (1, {"domain_clients": "fashion=1"}, "names fashion; the domains are mnist, usps, svhn"),
        (
            2,
            {"domain_clients": "svhn=2", "domain_share": 0.6},
            "domain svhn has 60 training samples, which is not enough",
        ),
        (2, {"domain_clients": "svhn=2", "domain_share": 0.001}, "for 2 clients with 0 each"),
        (8, {"domain_clients": "svhn=8", "domain_classes": "every"}, "the rarest with 6 samples, for 8 clients with 7"),
        (1, {"domain_share": 1.5}, r"domain_share\n  .* less than or equal to 1"),
    ],
)
def test_what_does_not_fit_is_refused(clients, values, sentence):
    with pytest.raises(ValueError, match=sentence):
        divide(clients, **values)


def test_data_without_domains_is_refused():
    with pytest.raises(ValueError, match="needs data with domains, and this data set has none"):
        partition(LABELS, 10, PartitionPlan(scheme="domains", num_partitions=3))


def test_the_same_seed_gives_the_same_domains_and_another_does_not():
    assert divide(3, seed=1).fingerprint == divide(3, seed=1).fingerprint != divide(3, seed=2).fingerprint


def test_quantity_skew_cuts_every_sample_once_into_sizes_that_differ():
    labels = np.arange(2000) % 10
    result = partition(
        labels, 10, PartitionPlan(scheme="quantity", num_partitions=10, alpha=0.5, min_samples=5), seed=3
    )
    sizes = sorted(len(ids) for ids in result.indices)
    assert sorted(np.concatenate(result.indices)) == list(range(2000))
    assert sizes[0] >= 5 and sizes[-1] > 4 * sizes[4]
    largest = max(result.indices, key=len)
    shares = np.bincount(labels[largest], minlength=10) / len(largest)
    assert np.abs(shares - 0.1).max() < 0.05  # sizes are skewed, classes are not


def test_quantity_skew_is_larger_for_a_smaller_alpha():
    labels = np.arange(5000) % 10
    spread = [
        np.std(
            [
                len(ids)
                for ids in partition(
                    labels, 10, PartitionPlan(scheme="quantity", num_partitions=10, alpha=alpha)
                ).indices
            ]
        )
        for alpha in (0.5, 5.0, 500.0)
    ]
    assert spread[0] > spread[1] > spread[2]


def test_quantity_skew_that_cannot_be_is_refused():
    with pytest.raises(ValueError, match="use a larger alpha, fewer clients or a smaller minimum"):
        partition(LABELS, 10, PartitionPlan(scheme="quantity", num_partitions=40, alpha=0.05, min_samples=9))
