"""FedSA's anchors and client loss, against loops over samples and classes."""

import math

import pytest
import torch

from fedhpro_flwr.class_means import ClassMeans
from fedhpro_flwr.config import ConfigError
from fedhpro_flwr.methods import Batch, build_method
from fedhpro_flwr.methods.fedsa import random_anchors
from fedhpro_flwr.methods.prototype_method import GlobalPrototypes
from fedhpro_flwr.prototypes import Prototypes
from fedhpro_flwr.seeding import Draws

CLASSES, WIDTH = 4, 5
LABELS = torch.tensor([0, 1, 2, 3, 3, 0])


def drawn(seed, *shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def means(ids, rows):
    samples = torch.full((len(ids),), 10 * len(ids))  # of each class; they must not weigh
    return ClassMeans(torch.tensor(ids), torch.tensor(rows), samples)


def started(make, **changes):
    method = build_method(make.config("fedsa", **changes))
    return method, method.start(make.model().state_dict())


def gap_by_hand(rows):
    """The mean over classes of the distance to the nearest other; 0 for one class."""
    nearest = [min((math.dist(a, b) for j, b in enumerate(rows) if j != i), default=0.0) for i, a in enumerate(rows)]
    return sum(nearest) / len(nearest)


def loss_by_hand(z, labels, anchors, margin, head, options):
    """The three terms beside the cross-entropy, sample by sample and class by class."""
    regularisation = contrast = calibration = 0.0
    for row, label in zip(z, labels.tolist(), strict=True):
        away = [torch.sqrt(((row - a) ** 2).sum()) for a in anchors]
        regularisation = regularisation + away[label] ** 2 / WIDTH / len(z)
        own = torch.exp(-(away[label] + margin))
        others = sum(torch.exp(-away[c]) for c in range(CLASSES) if c != label)
        contrast = contrast - torch.log(own / (own + others)) / len(z)
    for c, a in enumerate(anchors):
        logits = [head.weight[j] @ a + head.bias[j] for j in range(CLASSES)]
        calibration = calibration - torch.log(torch.exp(logits[c]) / sum(map(torch.exp, logits))) / CLASSES
    return (
        options.weight * regularisation + options.contrast_weight * contrast + options.calibration_weight * calibration
    )


NEAR = [[0.0, 0, 0, 0, 0], [0.1, 0, 0, 0, 0]]
FAR = [[0.0, 0, 0, 0, 0], [30.0, 0, 0, 0, 0], [0, 40.0, 0, 0, 0]]  # gap (30 + 30 + 40) / 3


@pytest.mark.parametrize("remembered", [None, NEAR, FAR, NEAR[:1]], ids=["first visit", "near", "far", "one class"])
def test_the_clients_loss_and_its_gradients(make, remembered):
    method, state = started(make, fedsa__weight=0.7, fedsa__contrast_weight=1.3, fedsa__calibration_weight=0.4)
    anchors, model = state.prototypes.vectors.double(), make.model().double()
    z = drawn(1, len(LABELS), WIDTH).double().requires_grad_()
    memory = {} if remembered is None else {"class-prototypes": torch.tensor(remembered)}
    sent = method.broadcast(GlobalPrototypes(Prototypes(anchors, state.prototypes.known)))
    loss = method.local_loss(make.arrival(method.config, model, make.data(), sent, memory, server_round=2))
    value = loss(Batch(torch.empty(len(LABELS), 1), LABELS, z))

    margin = max(gap_by_hand(anchors.tolist()), gap_by_hand(remembered) if remembered else 0.0)
    assert (margin == pytest.approx(100 / 3)) == (remembered is FAR)
    wanted = loss_by_hand(z, LABELS, anchors, margin, model.head, method.config.fedsa)
    torch.testing.assert_close(value, wanted, rtol=1e-6, atol=1e-9)
    inputs = (z, model.head.weight, model.head.bias)
    for gradient, by_hand in zip(torch.autograd.grad(value, inputs), torch.autograd.grad(wanted, inputs), strict=True):
        torch.testing.assert_close(gradient, by_hand, rtol=1e-6, atol=1e-9)


def test_anchors_follow_the_plain_mean_over_clients(make):
    method, _ = started(make, fedsa__decay=0.75)
    before = torch.tensor([[8.0] * WIDTH, [4.0] * WIDTH, [2.0] * WIDTH, [1.0] * WIDTH])
    state = GlobalPrototypes(Prototypes(before, torch.ones(CLASSES, dtype=torch.bool)))
    sent = [means([0, 1], [[0.0] * WIDTH, [8.0] * WIDTH]), means([0], [[4.0] * WIDTH])]
    after = method.update_prototypes(state, sent, Draws(0, 1)).prototypes
    assert after.vectors[:, 0].tolist() == [0.75 * 8 + 0.25 * 2, 0.75 * 4 + 0.25 * 8, 2.0, 1.0]
    assert torch.equal(method.update_prototypes(state, sent[::-1], Draws(0, 1)).prototypes.vectors, after.vectors)
    assert after.known.all()


def test_the_start_by_loops():
    anchors = random_anchors(CLASSES, 3, torch.Generator().manual_seed(2))
    generator = torch.Generator().manual_seed(2)
    rows = torch.randn(CLASSES, 3, generator=generator).double()
    for _ in range(2):
        weight = ((torch.rand(3, 3, generator=generator) * 2 - 1) / math.sqrt(3)).double()
        columns = []
        for q in range(3):
            column = [sum(float(weight[q, j] * row[j]) for j in range(3)) for row in rows]
            mean = sum(column) / CLASSES
            variance = sum((x - mean) ** 2 for x in column) / CLASSES
            columns.append([max(0.0, (x - mean) / math.sqrt(variance + 1e-5)) for x in column])
        rows = torch.tensor(columns, dtype=torch.float64).T
    torch.testing.assert_close(anchors.double(), rows, rtol=1e-4, atol=1e-5)


def test_the_start_comes_from_the_runs_seed_and_no_two_classes_share_it(make):
    one, same, other = (started(make, seed=seed)[1].prototypes.vectors for seed in (0, 0, 1))
    assert torch.equal(one, same) and not torch.equal(one, other)
    many = random_anchors(100, 64, torch.Generator().manual_seed(0))
    assert bool((many >= 0).all()) and bool(torch.isfinite(many).all())
    assert float(torch.pdist(many).min()) > 1.0


def test_clients_have_anchors_from_round_1_on(make):
    method, state = started(make)
    sent = method.broadcast(state)
    assert sent["known-classes"].all() and sent["global-prototypes"].shape == (CLASSES, WIDTH)
    assert method.local_loss(make.arrival(method.config, make.model(), make.data(), sent)) is not None
    assert method.tensors(state).keys() == sent.keys()


@pytest.mark.parametrize("prototypes", ["own", "hyper"])
def test_a_client_remembers_its_class_means_whoever_they_are_sent_to(make, prototypes):
    method, state = started(make, method__prototypes=prototypes)
    model, data = make.model(), make.data()
    arrival = make.arrival(method.config, model, data, method.broadcast(state))
    departure = method.depart(arrival, 1)
    z = model.eval().encoder((data.train.inputs - 0.1) / 2.0)
    wanted = torch.stack([z[data.train.labels == label].mean(0) for label in (0, 1, 3)])
    assert departure.memory.keys() == {"class-prototypes"}
    torch.testing.assert_close(departure.memory["class-prototypes"], wanted.detach())
    assert ("class-prototypes" in departure.upload) == (prototypes == "own")


def test_hyper_prototypes_take_the_anchors_place(make):
    method, state = started(make, method__prototypes="hyper")
    sent, model = method.broadcast(state), make.model()
    assert set(sent) == {"hyper-prototypes"}
    z = drawn(3, len(LABELS), WIDTH)
    value = method.local_loss(make.arrival(method.config, model, make.data(), sent))(
        Batch(torch.empty(len(LABELS), 1), LABELS, z)
    )
    anchors = sent["hyper-prototypes"].mean(1)
    wanted = loss_by_hand(z, LABELS, anchors, gap_by_hand(anchors.tolist()), model.head, method.config.fedsa)
    torch.testing.assert_close(value, wanted, rtol=1e-5, atol=1e-6)


def test_a_client_of_one_class(make):
    method, state = started(make)
    model, data = make.model(), make.data(labels=(1,))
    departure = method.depart(make.arrival(method.config, model, data, method.broadcast(state)), 1)
    after = method.update_prototypes(
        state,
        [ClassMeans(*(departure.upload[name] for name in ("class-ids", "class-prototypes", "class-counts")))],
        Draws(0, 1),
    )
    changed = (after.prototypes.vectors != state.prototypes.vectors).any(dim=1)
    assert changed.tolist() == [False, True, False, False]


@pytest.mark.parametrize(
    ("key", "wrong"),
    [("weight", -1.0), ("contrast_weight", -1.0), ("calibration_weight", -0.1), ("decay", 1.5), ("decay", -0.5)],
)
def test_wrong_settings_are_named(make, key, wrong):
    with pytest.raises(ConfigError, match=rf"^fedsa\.{key.replace('_', '-')} = {wrong}: it must be"):
        make.config("fedsa", **{f"fedsa__{key}": wrong})
