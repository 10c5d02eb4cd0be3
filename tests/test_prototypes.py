"""One global prototype a class."""

import math

import pytest
import torch

from fedhpro_flwr.prototypes import Prototypes, squared_distance

CLASSES, WIDTH = 5, 3


def some_features(count, seed=0, classes=CLASSES):
    draw = torch.Generator().manual_seed(seed)
    labels = torch.randint(classes, (count,), generator=draw)
    return torch.randn(count, WIDTH, generator=draw), labels


def some_prototypes(known=(True, True, False, True, True)):
    mask = torch.tensor(known)
    return Prototypes(torch.randn(CLASSES, WIDTH, generator=torch.Generator().manual_seed(1)) * mask[:, None], mask)


def test_scores_are_minus_distances_and_unknown_classes_lose():
    prototypes, (z, _) = some_prototypes(), some_features(8)
    scores = prototypes.scores()(z)
    for row, feature in zip(scores.tolist(), z.tolist(), strict=True):
        for label, score in enumerate(row):
            wanted = -math.dist(feature, prototypes.vectors[label].tolist()) if label != 2 else -math.inf
            assert score == pytest.approx(wanted, rel=1e-5)
    at_the_origin = prototypes.scores()(torch.zeros(1, WIDTH))  # where the unknown class's empty row lies
    assert int(at_the_origin.argmax()) != 2


def test_every_prototype_is_its_own_nearest():
    prototypes = some_prototypes()
    nearest = prototypes.scores()(prototypes.vectors).argmax(dim=1)
    assert nearest[prototypes.known].tolist() == [0, 1, 3, 4]


def test_before_anybody_sent_any_all_classes_lose():
    none = Prototypes.none(CLASSES, WIDTH)
    assert not none.known.any() and none.vectors.shape == (CLASSES, WIDTH)
    assert torch.isneginf(none.scores()(torch.randn(2, WIDTH))).all()


def test_an_update_replaces_the_masked_classes_alone():
    before = some_prototypes()
    vectors, mask = torch.full((CLASSES, WIDTH), 7.0), torch.tensor([False, True, True, False, False])
    after = before.updated(vectors, mask)
    assert torch.equal(after.vectors[mask], vectors[mask])
    assert torch.equal(after.vectors[~mask], before.vectors[~mask])
    assert after.known.tolist() == [True] * CLASSES
    assert before.known.tolist() == [True, True, False, True, True]


def test_the_squared_distance_is_that_of_a_loop():
    prototypes, (z, labels) = some_prototypes(), some_features(11, seed=3)
    assert 2 in labels.tolist()
    total = sum(
        sum((a - b) ** 2 for a, b in zip(z[i].tolist(), prototypes.vectors[label].tolist(), strict=True)) / WIDTH
        for i, label in enumerate(labels.tolist())
        if label != 2
    )
    assert float(squared_distance(z, labels, prototypes)) == pytest.approx(total / 11, rel=1e-5)


def test_samples_of_unknown_classes_have_no_gradient():
    z = torch.randn(4, WIDTH, generator=torch.Generator().manual_seed(0)).requires_grad_()
    squared_distance(z, torch.tensor([2, 0, 2, 4]), some_prototypes()).backward()
    assert torch.equal(z.grad[[0, 2]], torch.zeros(2, WIDTH))
    assert (z.grad[[1, 3]].abs().sum(dim=1) > 0).all()


def test_close_prototypes_far_from_zero_are_told_apart_in_batches_too():
    """Distances through a product of matrices lose what is small beside the vectors: 13 % here instead of all."""
    draw = torch.Generator().manual_seed(0)
    common = 100 * torch.nn.functional.normalize(torch.randn(64, generator=draw), dim=0)
    centres = common + 0.01 * torch.nn.functional.normalize(torch.randn(10, 64, generator=draw), dim=1)
    labels = torch.arange(100) % 10
    z = centres[labels] + 1e-4 * torch.randn(100, 64, generator=draw)
    scores = Prototypes(centres, torch.ones(10, dtype=torch.bool)).scores()
    assert torch.equal(scores(z).argmax(dim=1), labels)
    assert torch.equal(scores(z), torch.cat([scores(row) for row in z.split(1)]))
