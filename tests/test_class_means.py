"""Class means of a client."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fedhpro_flwr.class_means import ClassMeans, count_classes

CLASSES, WIDTH = 5, 3


def some_features(count, seed=0, classes=CLASSES):
    draw = torch.Generator().manual_seed(seed)
    labels = torch.randint(classes, (count,), generator=draw)
    return torch.randn(count, WIDTH, generator=draw), labels


@given(st.integers(1, 40), st.integers(0, 1000))
@settings(max_examples=60)
def test_class_means_are_those_of_a_loop(count, seed):
    z, labels = some_features(count, seed)
    means = ClassMeans.of(z, labels, CLASSES)
    assert means.class_ids.tolist() == sorted(set(labels.tolist()))
    for label, row, n in zip(means.class_ids.tolist(), means.means, means.counts.tolist(), strict=True):
        own = [z[i].tolist() for i in range(count) if int(labels[i]) == label]
        assert n == len(own)
        wanted = [sum(column) / n for column in zip(*own, strict=True)]
        assert row.tolist() == pytest.approx(wanted, rel=1e-4, abs=1e-6)


@given(st.integers(0, 1000))
@settings(max_examples=30)
def test_the_order_of_the_samples_does_not_matter(seed):
    z, labels = some_features(20, seed)
    order = torch.randperm(20, generator=torch.Generator().manual_seed(seed))
    one, two = ClassMeans.of(z, labels, CLASSES), ClassMeans.of(z[order], labels[order], CLASSES)
    assert torch.equal(one.class_ids, two.class_ids) and torch.equal(one.counts, two.counts)
    torch.testing.assert_close(one.means, two.means)


def test_class_means_by_hand():
    z = torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, -6.0]], requires_grad=True)
    means = ClassMeans.of(z, torch.tensor([4, 1, 4]), CLASSES)
    assert means.class_ids.tolist() == [1, 4] and means.counts.tolist() == [1, 2]
    assert means.means.tolist() == [[3.0, 4.0], [3.0, -2.0]]
    assert not means.means.requires_grad


@pytest.mark.parametrize("wrong", [-1, CLASSES])
def test_a_label_outside_the_classes_is_refused(wrong):
    with pytest.raises(ValueError, match=r"^labels must lie in 0\.\.4, got "):
        ClassMeans.of(torch.zeros(2, WIDTH), torch.tensor([0, wrong]), CLASSES)


def test_count_classes():
    assert count_classes(torch.tensor([2, 0, 2]), 4).tolist() == [1, 0, 2, 0]
