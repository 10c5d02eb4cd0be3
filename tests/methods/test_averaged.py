"""Plain averaged prototypes under HPCL and HPAL: FedHPro's loss with K = 1, and a loop where classes are unknown."""

import math

import pytest
import torch

from client_app.visit import visit
from fedhpro_flwr.features import encode
from fedhpro_flwr.losses import client_margin
from fedhpro_flwr.methods import Batch, build_method
from fedhpro_flwr.methods.hpcl_hpal import margin_of
from fedhpro_flwr.prototypes import Prototypes

CLASSES, WIDTH, BATCH, TAU = 4, 5, 9, 0.4
LOSSES = {"losses__temperature": TAU, "losses__hpcl_weight": 0.7, "losses__hpal_weight": 0.3}


def some_vectors(seed=2):
    return torch.randn(CLASSES, WIDTH, generator=torch.Generator().manual_seed(seed))


def some_batch(labels=(0, 1, 2, 3, 3, 2, 1, 0, 0), seed=1):
    z = torch.randn(BATCH, WIDTH, generator=torch.Generator().manual_seed(seed)).requires_grad_()
    return Batch(torch.empty(BATCH, 1), torch.tensor(labels), z)


def loss_of(make, known, **changes):
    config = make.config("averaged", **(LOSSES | changes))
    known = torch.tensor(known)
    sent = {"global-prototypes": some_vectors() * known[:, None], "known-classes": known}
    return build_method(config).local_loss(make.arrival(config, make.model(), make.data(), sent))


def fedhpros(make, **changes):
    config = make.config("fedhpro", **(LOSSES | changes), hyper_prototypes__prototypes_per_class=1)
    sent = {"hyper-prototypes": some_vectors()[:, None]}
    return build_method(config).local_loss(make.arrival(config, make.model(), make.data(), sent))


OPTIONS = [
    {},
    {"losses__margin": "none"},
    {"losses__hpal": "off"},
    {"losses__hpcl": "off", "losses__margin": "none"},
    {"losses__margin_pairs": "far"},
    {"preset": "reference"},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_where_all_classes_are_known_it_is_fedhpros_loss_with_one_prototype_a_class(make, options):
    batch = some_batch()
    ours, theirs = loss_of(make, [True] * CLASSES, **options)(batch), fedhpros(make, **options)(batch)
    assert torch.equal(ours, theirs) and ours.item() > 0
    assert torch.equal(torch.autograd.grad(ours, batch.z)[0], torch.autograd.grad(theirs, batch.z)[0])


def loss_by_hand(batch, known, margin):
    """w_1 HPCL + w_2 HPAL over the samples of known classes, among known classes, in float64."""
    vectors, total = some_vectors().double(), 0.0
    for z, label in zip(batch.z.double(), batch.labels.tolist(), strict=True):
        if not known[label]:
            continue
        cosine = [z @ vectors[c] / (z.norm() * vectors[c].norm()) for c in range(CLASSES)]
        others = sum(torch.exp((cosine[c] + margin) / TAU) for c in range(CLASSES) if known[c] and c != label)
        contrast = torch.log(1 + others / torch.exp(cosine[label] / TAU))
        gap = (z - vectors[label]).abs()
        total = total + 0.7 * contrast + 0.3 * torch.where(gap < 1, gap**2 / 2, gap - 0.5).sum()
    return total / len(batch.labels)


def own_margin(make):
    """Of the client's classes, known to the server or not."""
    data = make.data()
    z = encode(make.model(), data.train.inputs, data.encoder_inputs)
    return float(client_margin(z, data.train.labels, CLASSES, "l2-unit"))


@pytest.mark.parametrize("known", [[True, False, True, True], [True, False, False, True], [False, True, True, True]])
def test_where_classes_are_unknown_it_is_among_the_known_ones(make, known):
    batch = some_batch()
    wanted = loss_by_hand(batch, known, own_margin(make))
    loss = loss_of(make, known)(batch)
    assert loss.item() == pytest.approx(wanted.item(), rel=1e-5)
    (gradient,) = torch.autograd.grad(loss, batch.z)
    torch.testing.assert_close(gradient, torch.autograd.grad(wanted, batch.z)[0], rtol=1e-4, atol=1e-6)
    assert all(gradient[i].abs().max() == 0 for i, label in enumerate(batch.labels.tolist()) if not known[label])


def test_a_margin_for_each_pair_is_that_of_the_known_pairs(make):
    known, batch = [True, False, True, True], some_batch(labels=(0, 2, 3, 3, 2, 0, 0, 2, 3))
    options = {"losses__margin_pairs": "far", "losses__hpal": "off"}
    loss = loss_of(make, known, **options)(batch)
    config = make.config("averaged", **(LOSSES | options))
    pairs = margin_of(config, make.arrival(config, make.model(), make.data()))  # of all classes: [C, C]
    assert pairs.shape == (CLASSES, CLASSES) and pairs[0, 3] != pairs[0, 1]
    total = 0.0
    for z, label in zip(batch.z.detach(), batch.labels.tolist(), strict=True):
        cosine = [float(z @ v / (z.norm() * v.norm())) for v in some_vectors()]
        own = math.exp(cosine[label] / TAU)
        others = sum(
            math.exp((cosine[c] + float(pairs[label, c])) / TAU) for c in range(CLASSES) if known[c] and c != label
        )
        total += 0.7 * math.log(1 + others / own)
    assert loss.item() == pytest.approx(total / BATCH, rel=1e-5)


def test_a_batch_of_unknown_classes_only_adds_nothing(make):
    batch = some_batch(labels=(3,) * BATCH)
    loss = loss_of(make, [True, True, True, False])(batch)
    assert loss.shape == () and loss.item() == 0.0


def test_one_known_class_has_nothing_to_contrast_with(make):
    batch = some_batch()
    loss = loss_of(make, [False, True, False, False], losses__hpal="off")(batch)
    assert loss.item() == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("known", [[True] * CLASSES, [True, False, True, True]])
def test_both_losses_off_is_no_loss(make, known):
    assert loss_of(make, known, losses__hpcl="off", losses__hpal="off", losses__margin="none") is None


def test_in_round_1_nothing_is_known(make):
    assert loss_of(make, [False] * CLASSES) is None
    none = build_method(make.config("averaged")).start_prototypes(CLASSES, WIDTH).prototypes
    assert isinstance(none, Prototypes) and not none.known.any()


def test_the_class_means_are_of_the_trained_encoder_though_the_margin_is_of_the_received_one(make):
    config, train = make.config("averaged", **LOSSES), make.data().train
    sent = {"global-prototypes": some_vectors(), "known-classes": torch.ones(CLASSES, dtype=torch.bool)}
    update = visit(make.model(9), make.data(), make.received(config, make.model(), sent, server_round=2))
    model = make.model()
    model.load_state_dict(update.model)
    z = model.eval().encoder((train.inputs - 0.1) / 2.0).detach()
    assert update.tensors["class-ids"].tolist() == [0, 1, 3]
    for row, label in zip(update.tensors["class-prototypes"], (0, 1, 3), strict=True):
        torch.testing.assert_close(row, z[train.labels == label].mean(0))


def test_rounds_of_the_strategy(make):
    clients = [make.data(seed, labels, 6 + 3 * seed) for seed, labels in enumerate([(0, 1), (1, 3), (0, 3)])]
    strategy = make.run(make.config("averaged", partition__num_partitions=3, rounds=2), clients)
    means = [update.tensors for update in strategy.replies.good]
    for label, holders in {0: (0, 2), 1: (0, 1), 3: (1, 2)}.items():
        rows = [means[k]["class-prototypes"][means[k]["class-ids"].tolist().index(label)] for k in holders]
        torch.testing.assert_close(strategy.state.prototypes.vectors[label], (rows[0] + rows[1]) / 2)
    assert strategy.state.prototypes.known.tolist() == [True, True, False, True]
