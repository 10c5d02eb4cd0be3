"""The classes of all clients together, by hand."""

import torch

from fedhpro_flwr.methods.fedhpro_state import imbalance, updated_counts
from fedhpro_flwr.records import CLASS_COUNTS, CLASS_IDS, Update


def told(partition, **samples):
    ids = torch.tensor([int(label[1:]) for label in samples])
    counts = torch.tensor(list(samples.values()))
    return Update(partition, sum(samples.values()), {}, {CLASS_IDS: ids, CLASS_COUNTS: counts})


def after(counts, *clients):
    return updated_counts(counts, clients)


def test_the_latest_word_of_every_client_counts():
    counts = after(torch.zeros(3, 4), told(0, c0=30, c1=2), told(2, c1=3, c3=10))
    assert counts.tolist() == [[30, 2, 0, 0], [0, 0, 0, 0], [0, 3, 0, 10]]
    assert imbalance(counts) == 6.0  # 30 of class 0, 5 of class 1, 10 of class 3; nobody has class 2
    counts = after(counts, told(2, c1=28, c3=30))
    assert imbalance(counts) == 1.0


def test_before_anybody_has_told_nothing_is_imbalanced():
    assert imbalance(torch.zeros(2, 3)) == 1.0


def test_the_state_before_is_left_alone():
    before = torch.zeros(1, 2)
    after(before, told(0, c1=5))
    assert before.tolist() == [[0, 0]]
