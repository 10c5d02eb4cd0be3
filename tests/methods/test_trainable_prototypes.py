"""FedTGP's trainable prototypes: the network by loops, a step by finite differences, epochs by torch's own modules."""

import math

import pytest
import torch
from torch import nn

from fedhpro_flwr.margin_contrast import margin_contrast
from fedhpro_flwr.methods.trainable_prototypes import TrainablePrototypes

CLASSES, WIDTH = 3, 2
LABELS = torch.tensor([0, 1, 2, 2, 0])
POINTS = torch.randn(5, WIDTH, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def started(seed=0, classes=CLASSES, width=WIDTH):
    start = TrainablePrototypes.start(classes, width, torch.Generator().manual_seed(seed))
    return TrainablePrototypes(*(tensor.double() for tensor in start))


def trained(start, points=POINTS, labels=LABELS, **changes):
    options = {"margin": 0.8, "epochs": 1, "batch_size": 10, "lr": 0.05, "generator": torch.Generator().manual_seed(9)}
    return start.trained(points, labels, **(options | changes))


def vectors_by_hand(e, w1, b1, w2, b2):
    """W_2 relu(W_1 e + b_1) + b_2 in plain numbers."""
    hidden = [
        [max(0.0, b + sum(w * x for w, x in zip(row, one, strict=True))) for row, b in zip(w1, b1, strict=True)]
        for one in e
    ]
    return [
        [b + sum(w * x for w, x in zip(row, one, strict=True)) for row, b in zip(w2, b2, strict=True)] for one in hidden
    ]


def server_loss_by_hand(tensors, points, labels, margin):
    """Client prototype by client prototype, in plain numbers."""
    prototypes = vectors_by_hand(*(tensor.tolist() for tensor in tensors))
    total = 0.0
    for x, label in zip(points.tolist(), labels.tolist(), strict=True):
        own = math.exp(-(math.dist(x, prototypes[label]) + margin))
        others = sum(math.exp(-math.dist(x, p)) for c, p in enumerate(prototypes) if c != label)
        total -= math.log(own / (own + others))
    return total / len(points)


def test_the_network():
    start = started()
    wanted = torch.tensor(vectors_by_hand(*(tensor.tolist() for tensor in start)), dtype=torch.float64)
    torch.testing.assert_close(start.vectors(), wanted, rtol=1e-12, atol=1e-14)


def test_the_loss_that_is_trained():
    start = started()
    wanted = server_loss_by_hand(start, POINTS, LABELS, 0.8)
    assert float(margin_contrast(POINTS, LABELS, start.vectors(), 0.8)) == pytest.approx(wanted, rel=1e-12)


def test_one_step_is_the_gradient_by_finite_differences():
    start, lr, h = started(), 0.05, 1e-6
    after = trained(start, lr=lr)
    for place, tensor in enumerate(start):
        for index in range(tensor.numel()):
            losses = []
            for sign in (1, -1):
                shifted = [each.clone() for each in start]
                shifted[place].view(-1)[index] += sign * h
                losses.append(server_loss_by_hand(shifted, POINTS, LABELS, 0.8))
            gradient = (losses[0] - losses[1]) / (2 * h)
            moved = float(after[place].view(-1)[index] - tensor.view(-1)[index])
            assert moved == pytest.approx(-lr * gradient, rel=1e-5, abs=1e-9), (place, index)


def test_epochs_and_batches_as_torchs_modules_and_optimizer_take_them():
    start = started(seed=4, width=4, classes=5)
    labels = torch.tensor([0, 1, 2, 3, 4, 0, 2])
    points = torch.randn(7, 4, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    embedding, network = nn.Embedding(5, 4), nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4))
    parameters = [embedding.weight, *network.parameters()]
    for parameter, tensor in zip(parameters, start, strict=True):
        parameter.data = tensor.clone()
    optimizer, order = torch.optim.SGD(parameters, lr=0.1), torch.Generator().manual_seed(9)
    for _ in range(3):
        permutation = torch.randperm(7, generator=order)
        for chosen in (permutation[:3], permutation[3:6], permutation[6:]):
            away = (points[chosen][:, None] - network(embedding.weight)).norm(dim=2)
            away = away + 0.8 * torch.eye(5, dtype=torch.float64)[labels[chosen]]
            optimizer.zero_grad()
            nn.functional.cross_entropy(-away, labels[chosen]).backward()
            optimizer.step()
    for tensor, parameter in zip(
        trained(start, points, labels, epochs=3, batch_size=3, lr=0.1), parameters, strict=True
    ):
        torch.testing.assert_close(tensor, parameter.data, rtol=1e-10, atol=1e-13)


def test_what_is_trained_is_a_copy_without_a_graph():
    start = started()
    before = [tensor.clone() for tensor in start]
    after = trained(start)
    assert all(torch.equal(*pair) for pair in zip(start, before, strict=True))
    assert not any(tensor.requires_grad for tensor in after)
    assert not any(torch.equal(*pair) for pair in zip(start, after, strict=True))


def test_no_epochs_change_nothing():
    assert all(torch.equal(*pair) for pair in zip(started(), trained(started(), epochs=0), strict=True))


def test_in_one_batch_the_order_of_the_clients_does_not_matter():
    order = torch.tensor([4, 2, 0, 3, 1])
    permuted = trained(started(), POINTS[order], LABELS[order], epochs=5)
    for one, other in zip(trained(started(), epochs=5), permuted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-13)


def test_training_brings_every_client_prototype_nearest_to_its_own_class():
    points = torch.tensor([[3.0, 0.0], [0.0, 3.0], [3.2, 0.1], [0.0, 0.0]], dtype=torch.float64)
    labels = torch.tensor([0, 1, 0, 2])
    after = trained(started(), points, labels, epochs=300, batch_size=2, margin=1.0)
    assert torch.cdist(points, after.vectors()).argmin(dim=1).tolist() == labels.tolist()


def test_the_start_comes_from_the_generator_alone():
    torch.manual_seed(0)
    one = started(seed=3, classes=200, width=64)
    torch.manual_seed(1)
    assert all(torch.equal(*pair) for pair in zip(one, started(seed=3, classes=200, width=64), strict=True))
    assert not torch.equal(one.embeddings, started(seed=5, classes=200, width=64).embeddings)
    assert float(one.embeddings.std()) == pytest.approx(1.0, abs=0.03)
    for tensor in one[1:]:
        assert float(tensor.abs().max()) <= 1 / 8
    assert float(one.hidden_weight.std()) == pytest.approx(1 / 8 / math.sqrt(3), rel=0.05)
