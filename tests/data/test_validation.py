"""Part of the training samples in place of the test data."""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from fedhpro_flwr.config import ConfigError, RunConfig
from fedhpro_flwr.data import DataSet, Split, load
from fedhpro_flwr.data.registry import DataSource
from fedhpro_flwr.data.validation import validation

REAL = Path(os.environ.get("FEDHPRO_DATA_DIR") or Path(__file__).parents[2] / ".." / "shared" / "data")
COUNTS = {(0, 0): 10, (0, 1): 20, (0, 2): 3, (1, 0): 40, (1, 1): 5, (1, 2): 1}  # samples by domain and class
TEST = 12


def numbered(first, labels, domains=None):
    """Samples that hold their own number, so that they can be told apart."""
    inputs = torch.arange(first, first + len(labels), dtype=torch.float32)[:, None]
    return Split(inputs, torch.tensor(labels), None if domains is None else torch.tensor(domains))


def some_data(*, domains=True):
    rows = [(domain, label) for (domain, label), count in COUNTS.items() for _ in range(count)]
    rows = [rows[i] for i in torch.randperm(len(rows), generator=torch.Generator().manual_seed(0)).tolist()]
    of = [domain for domain, _ in rows] if domains else None
    train = numbered(0, [label for _, label in rows], of)
    test = numbered(1000, [i % 3 for i in range(TEST)], [i % 2 for i in range(TEST)] if domains else None)
    return DataSet("numbers", train, test, ("a", "b", "c"), domain_names=("left", "right") if domains else ())


def numbers(split):
    return [int(value) for value in split.inputs[:, 0]]


@pytest.mark.parametrize("domains", [True, False])
def test_the_parts_are_disjoint_and_all_there_is_to_train_on(domains):
    data = some_data(domains=domains)
    chosen = validation(data, 0.2, 0)
    kept, held = numbers(chosen.train), numbers(chosen.test)
    assert not set(kept) & set(held)
    assert sorted(kept + held) == numbers(data.train)
    assert kept == sorted(kept) and held == sorted(held)
    assert max(held) < 1000  # none of the test data
    for part in (chosen.train, chosen.test):
        assert torch.equal(part.labels, data.train.labels[numbers(part)])
        assert part.domains is None if not domains else torch.equal(part.domains, data.train.domains[numbers(part)])
    assert (chosen.class_names, chosen.domain_names) == (data.class_names, data.domain_names)


def test_what_belongs_together_stays_together():
    data = some_data()
    groups = data.train.labels + 3 * data.train.domains + 6 * (torch.arange(len(data.train)) % 4)  # 4 of each kind
    chosen = validation(replace(data, train=replace(data.train, groups=groups)), 0.5, 0)
    kept, held = (set(part.groups.tolist()) for part in (chosen.train, chosen.test))
    assert not kept & held and kept | held == set(groups.tolist())
    assert sorted(numbers(chosen.train) + numbers(chosen.test)) == numbers(data.train)
    for part in (chosen.train, chosen.test):
        assert torch.equal(part.groups, groups[numbers(part)])


@pytest.mark.parametrize("share", [0.1, 0.2, 0.5, 0.9])
def test_each_class_of_each_domain_gives_its_share(share):
    chosen = validation(some_data(), share, 3)
    for (domain, label), count in COUNTS.items():
        held = int(((chosen.test.domains == domain) & (chosen.test.labels == label)).sum())
        assert held == min(round(share * count), count - 1)  # one is left to train on


def test_without_domains_each_class_gives_its_share():
    chosen = validation(some_data(domains=False), 0.25, 0)
    assert torch.bincount(chosen.test.labels).tolist() == [round(0.25 * 50), round(0.25 * 25), 1]


def test_the_choice_is_that_of_the_seed():
    one, again, other = (numbers(validation(some_data(), 0.2, seed).test) for seed in (0, 0, 1))
    assert one == again
    assert len(one) == len(other) and one != other


def test_the_choice_is_not_that_of_a_test_part_with_the_same_seed():
    """By a loop over its draws."""
    data = some_data(domains=False)
    mixed = int(np.random.default_rng([0x5A11D, 3]).integers(2**31))
    drawn = {}
    for seed in (3, mixed):
        rng = np.random.default_rng(seed)
        shuffled = [rng.permutation(np.flatnonzero(data.train.labels == label)) for label in range(3)]
        drawn[seed] = sorted(i for ids in shuffled for i in ids[: round(0.25 * len(ids))])
    assert numbers(validation(data, 0.25, 3).test) == drawn[mixed] != drawn[3]


def test_the_test_data_has_no_say():
    data = some_data()
    another = DataSet("numbers", data.train, numbered(5000, [0], [1]), data.class_names, domain_names=data.domain_names)
    assert numbers(validation(data, 0.2, 0).test) == numbers(validation(another, 0.2, 0).test)


def test_a_share_of_too_few_samples_is_refused():
    with pytest.raises(ValueError, match=r"^data\.validation-share = 0\.001 of 79 samples leaves no test sample: it "):
        validation(some_data(), 0.001, 0)


@pytest.mark.parametrize("share", [-0.1, 1.0, 1.5])
def test_impossible_shares_are_refused(share):
    with pytest.raises(ValueError, match=r"validation_share\n"):
        DataSource(name="digits", validation_share=share)
    with pytest.raises(ConfigError, match=rf"^data\.validation-share = {share}: it must be "):
        RunConfig.parse(data__validation_share=share)


def test_the_digits_are_loaded_with_it():
    plain, chosen = load(DataSource(name="digits")), load(DataSource(name="digits", validation_share=0.1))
    assert len(chosen.train) + len(chosen.test) == len(plain.train)
    assert len(chosen.test) == pytest.approx(0.1 * len(plain.train), abs=5)
    # No image of the test part is among them.
    tests = {row.numpy().tobytes() for row in plain.test.inputs}
    trains = {row.numpy().tobytes() for row in plain.train.inputs}
    held = [row.numpy().tobytes() for row in chosen.test.inputs]
    assert all(image in trains for image in held)
    assert sum(image in tests for image in held) <= len(tests & trains)


def test_the_training_samples_are_limited_first():
    chosen = load(DataSource(name="digits", validation_share=0.25, train_limit=200))
    assert len(chosen.train) + len(chosen.test) == 200


@pytest.mark.skipif(not (REAL / "OfficeCaltech10_SURF").is_dir(), reason=f"no OfficeCaltech10_SURF in {REAL}")
def test_real_domains():
    source = DataSource(name="office-caltech-surf", root=str(REAL))
    plain, chosen = load(source), load(source.model_copy(update={"validation_share": 0.1}))
    assert len(chosen.train) + len(chosen.test) == len(plain.train)
    for domain in range(len(plain.domain_names)):
        for label in range(plain.num_classes):
            there = int(((plain.train.domains == domain) & (plain.train.labels == label)).sum())
            held = int(((chosen.test.domains == domain) & (chosen.test.labels == label)).sum())
            assert there > 1 and held == round(0.1 * there)
