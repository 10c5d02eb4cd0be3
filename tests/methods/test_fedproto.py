"""FedProto's mean and distance against loops, and hyper-prototypes in its prototypes' place."""

import pytest
import torch

from fedhpro_flwr.class_means import ClassMeans
from fedhpro_flwr.methods import Batch, build_method
from fedhpro_flwr.methods.prototype_method import GlobalPrototypes
from fedhpro_flwr.prototypes import Prototypes
from fedhpro_flwr.seeding import Draws

CLASSES, WIDTH, BATCH, WEIGHT = 4, 5, 9, 0.6
NOBODY = 2


def clients_means(seed=0):
    """Three clients: class 0 at all of them, 1 at two, 3 at one."""
    draw = torch.Generator().manual_seed(seed)
    held = [[0, 1], [0, 1, 3], [0]]
    counts = [[5, 1], [2, 30, 7], [11]]
    return [
        ClassMeans(torch.tensor(ids), torch.randn(len(ids), WIDTH, generator=draw), torch.tensor(n))
        for ids, n in zip(held, counts, strict=True)
    ]


def mean_by_hand(sent, label, *, by_counts):
    total, weights = [0.0] * WIDTH, 0.0
    for means in sent:
        for row, own, count in zip(means.means.tolist(), means.class_ids.tolist(), means.counts.tolist(), strict=True):
            if own == label:
                weight = count if by_counts else 1
                total, weights = [t + weight * value for t, value in zip(total, row, strict=True)], weights + weight
    return torch.tensor([t / weights for t in total])


@pytest.mark.parametrize(("name", "by_counts"), [("fedproto", True), ("averaged", False)])
def test_the_servers_mean(make, name, by_counts):
    method, sent = build_method(make.config(name)), clients_means()
    state = method.update_prototypes(method.start_prototypes(CLASSES, WIDTH), sent, Draws(0, 1))
    assert state.prototypes.known.tolist() == [True, True, False, True]
    for label in (0, 1, 3):
        wanted = mean_by_hand(sent, label, by_counts=by_counts)
        torch.testing.assert_close(state.prototypes.vectors[label], wanted, rtol=1e-6, atol=1e-7)
    assert torch.equal(state.prototypes.vectors[NOBODY], torch.zeros(WIDTH))


@pytest.mark.parametrize("name", ["fedproto", "averaged", "fedsa"])
def test_the_servers_median(make, name):
    config = make.config(name, aggregation__class_gradients="median", fedsa__decay=0.0)
    method, sent = build_method(config), clients_means()
    state = method.update_prototypes(method.start_prototypes(CLASSES, WIDTH), sent, Draws(0, 1))
    of_class_0 = torch.stack([each.means[0] for each in sent])
    assert torch.equal(state.prototypes.vectors[0], of_class_0.median(dim=0).values)
    assert torch.equal(state.prototypes.vectors[3], sent[1].means[2])


@pytest.mark.parametrize("name", ["fedproto", "averaged"])
def test_a_class_that_nobody_sends_keeps_its_prototype(make, name):
    method, sent = build_method(make.config(name)), clients_means()
    first = method.update_prototypes(method.start_prototypes(CLASSES, WIDTH), sent, Draws(0, 1))
    second = method.update_prototypes(first, sent[2:], Draws(0, 2))  # a client of class 0 alone
    assert torch.equal(second.prototypes.vectors[1:], first.prototypes.vectors[1:])
    assert torch.equal(second.prototypes.known, first.prototypes.known)
    torch.testing.assert_close(second.prototypes.vectors[0], sent[2].means[0])


def some_batch(seed=1):
    draw = torch.Generator().manual_seed(seed)
    labels = torch.tensor([0, 1, NOBODY, 3, 3, NOBODY, 1, 0, 0])
    return Batch(torch.empty(BATCH, 1), labels, torch.randn(BATCH, WIDTH, generator=draw).requires_grad_())


def received_state(seed=2):
    vectors = torch.randn(CLASSES, WIDTH, generator=torch.Generator().manual_seed(seed))
    known = torch.arange(CLASSES) != NOBODY
    return GlobalPrototypes(Prototypes(vectors * known[:, None], known))


def test_the_clients_loss_and_its_gradient(make):
    config, state, batch = make.config("fedproto", fedproto__weight=WEIGHT), received_state(), some_batch()
    method = build_method(config)
    loss = method.local_loss(make.arrival(config, make.model(), make.data(), method.broadcast(state)))(batch)
    total = 0.0
    for z, label in zip(batch.z.tolist(), batch.labels.tolist(), strict=True):
        if label != NOBODY:
            prototype = state.prototypes.vectors[label].tolist()
            total += sum((a - b) ** 2 for a, b in zip(z, prototype, strict=True)) / WIDTH
    assert loss.item() == pytest.approx(WEIGHT * total / BATCH, rel=1e-5)
    (gradient,) = torch.autograd.grad(loss, batch.z)
    wanted = 2 * WEIGHT / (BATCH * WIDTH) * (batch.z.detach() - state.prototypes.vectors[batch.labels])
    wanted[batch.labels == NOBODY] = 0
    torch.testing.assert_close(gradient, wanted, rtol=1e-5, atol=1e-7)


def test_in_round_1_there_is_no_term(make):
    config = make.config("fedproto")
    method = build_method(config)
    sent = method.broadcast(method.start(make.model().state_dict()))
    assert sent["known-classes"].tolist() == [False] * CLASSES
    assert method.local_loss(make.arrival(config, make.model(), make.data(), sent)) is None


def some_clients(make):
    return [make.data(seed, labels, 6 + 3 * seed) for seed, labels in enumerate([(0, 1), (1, 3), (0, 3)])]


def test_after_a_round_a_prototype_is_the_mean_over_all_samples_of_its_class(make):
    strategy = make.run(make.config("fedproto", partition__num_partitions=3, rounds=1), some_clients(make))
    features, labels, model = [], [], make.model()
    for data, update in zip(some_clients(make), strategy.replies.good, strict=True):
        model.load_state_dict(update.model)
        features.append(model.eval().encoder((data.train.inputs - 0.1) / 2.0).detach())
        labels.append(data.train.labels)
    prototypes = strategy.state.prototypes
    assert prototypes.known.tolist() == [True, True, False, True]
    for label in (0, 1, 3):
        wanted = torch.cat(features)[torch.cat(labels) == label].mean(0)
        torch.testing.assert_close(prototypes.vectors[label], wanted, rtol=1e-5, atol=1e-6)
    assert set(strategy.tensors()) == {"global-prototypes", "known-classes"}


def test_as_published_nothing_but_prototypes_travels(make, states_of_clients):
    config = make.config("fedproto", partition__num_partitions=3, model__share="nothing")
    strategy = make.run(config, some_clients(make))
    assert strategy.model.shared == {}
    assert strategy.state.prototypes.known.tolist() == [True, True, False, True]
    assert len(list(states_of_clients.glob("*/client-*/visit-2-*.safetensors"))) == 3  # where the models are
