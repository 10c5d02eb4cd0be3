"""FedTGP's server step and client loss, against loops over clients, classes and samples."""

import math

import pytest
import torch

from fedhpro_flwr.class_means import ClassMeans
from fedhpro_flwr.config import ConfigError
from fedhpro_flwr.methods import Batch, build_method
from fedhpro_flwr.prototypes import Prototypes
from fedhpro_flwr.seeding import Draws

CLASSES, WIDTH = 4, 5


def drawn(seed, *shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def means(seed, ids, counts=None):
    far = 5 + drawn(seed, len(ids), WIDTH)  # from the origin, where the mean of a class that nobody sent would be
    return ClassMeans(torch.tensor(ids), far, torch.tensor(counts or [1] * len(ids)))


SENT = [means(1, [0, 1, 3], [50, 1, 1]), means(2, [0, 1]), means(3, [3])]  # nobody holds class 2


def started(make, **changes):
    method = build_method(make.config("fedtgp", **changes))
    return method, method.start(make.model().state_dict())


def margin_by_hand(sent):
    """The largest distance of two classes' means over clients; every client counts once, whatever its samples."""
    rows = {}
    for each in sent:
        for label, row in zip(each.class_ids.tolist(), each.means.tolist(), strict=True):
            rows.setdefault(label, []).append(row)
    q = {label: [sum(column) / len(column) for column in zip(*held, strict=True)] for label, held in rows.items()}
    return max(math.dist(q[a], q[b]) for a in q for b in q)


@pytest.mark.parametrize("threshold", [100.0, 0.5])
def test_the_server_step(make, threshold):
    lr = 0.2
    method, state = started(make, fedtgp__server_epochs=1, fedtgp__server_lr=lr, fedtgp__margin_threshold=threshold)
    after = method.update_prototypes(state, SENT, Draws(0, 1))
    margin = min(margin_by_hand(SENT), threshold)
    assert (margin == threshold) == (threshold == 0.5)  # tau decides in one case alone
    leaves = [tensor.double().requires_grad_() for tensor in state.trainable]
    e, w1, b1, w2, b2 = leaves
    prototypes = [w2 @ torch.clamp(w1 @ one + b1, min=0) + b2 for one in e]
    total, count = 0.0, 0
    for each in SENT:
        for label, x in zip(each.class_ids.tolist(), each.means.double(), strict=True):
            away = [torch.sqrt(((x - p) ** 2).sum()) for p in prototypes]
            own = torch.exp(-(away[label] + margin))
            others = sum(torch.exp(-away[c]) for c in range(CLASSES) if c != label)  # class 2 is one of them
            total, count = total - torch.log(own / (own + others)), count + 1
    gradients = torch.autograd.grad(total / count, leaves)
    for tensor, leaf, gradient in zip(after.trainable, leaves, gradients, strict=True):
        torch.testing.assert_close(tensor.double(), (leaf - lr * gradient).detach(), rtol=1e-5, atol=1e-6)
    wanted = after.trainable.vectors()
    assert after.prototypes.known.tolist() == [True, True, False, True]
    assert torch.equal(after.prototypes.vectors[[0, 1, 3]], wanted[[0, 1, 3]])
    assert torch.equal(after.prototypes.vectors[2], torch.zeros(WIDTH))


def test_a_class_that_nobody_sends_any_more_stays_known(make):
    method, state = started(make, fedtgp__server_epochs=1)
    state = method.update_prototypes(state, SENT, Draws(0, 1))
    state = method.update_prototypes(state, [means(4, [2])], Draws(0, 2))
    assert state.prototypes.known.all()


def test_the_orders_of_the_batches_come_from_the_round(make):
    method, state = started(make, fedtgp__server_epochs=3, fedtgp__server_batch_size=2)
    one, same, other = (
        method.update_prototypes(state, SENT, Draws(0, place)).prototypes.vectors for place in (1, 1, 2)
    )
    assert torch.equal(one, same) and not torch.equal(one, other)


def test_the_start_comes_from_the_runs_seed(make):
    starts = [started(make, seed=seed)[1].trainable for seed in (0, 0, 1)]
    assert all(torch.equal(*pair) for pair in zip(*starts[:2], strict=True))
    assert not torch.equal(starts[0].embeddings, starts[2].embeddings)


def test_one_client_of_one_class(make):
    method, state = started(make)
    after = method.update_prototypes(state, [means(5, [1])], Draws(0, 1))
    assert after.prototypes.known.tolist() == [False, True, False, False]
    assert torch.isfinite(after.prototypes.vectors).all()
    data = make.data(labels=(1,))
    loss = method.local_loss(make.arrival(method.config, make.model(), data, method.broadcast(after), server_round=2))
    assert float(loss(Batch(torch.empty(3, 1), torch.tensor([1, 1, 1]), drawn(6, 3, WIDTH)))) > 0


def test_the_clients_loss_and_its_gradient(make):
    method, state = started(make, fedtgp__weight=3.0)
    state = method.update_prototypes(state, SENT, Draws(0, 1))
    labels, z = torch.tensor([0, 1, 2, 3, 0]), drawn(7, 5, WIDTH).requires_grad_()
    loss = method.local_loss(make.arrival(method.config, make.model(), make.data(), method.broadcast(state)))
    value = loss(Batch(torch.empty(5, 1), labels, z))
    total = 0.0
    for row, label in zip(z.tolist(), labels.tolist(), strict=True):
        if label != 2:
            p = state.prototypes.vectors[label].tolist()
            total += 3.0 / 5 * sum((a - b) ** 2 for a, b in zip(row, p, strict=True)) / WIDTH
    assert value.item() == pytest.approx(total, rel=1e-6)
    (gradient,) = torch.autograd.grad(value, z)
    wanted = 3.0 / 5 * 2 * (z - state.prototypes.vectors[labels]) / WIDTH
    wanted[2] = 0
    torch.testing.assert_close(gradient, wanted.detach())


def test_in_round_1_there_is_no_term(make):
    method, state = started(make)
    assert method.local_loss(make.arrival(method.config, make.model(), make.data(), method.broadcast(state))) is None


def test_what_is_saved_is_the_whole_state(make):
    method, state = started(make, fedtgp__server_epochs=2)
    state = method.update_prototypes(state, SENT, Draws(0, 1))
    saved = method.tensors(state)
    assert set(saved) == {
        "global-prototypes", "known-classes",
        "embeddings", "hidden-weight", "hidden-bias", "output-weight", "output-bias",
    }  # fmt: skip
    trainable = type(state.trainable)(*(saved[name.replace("_", "-")] for name in state.trainable._fields))
    restored = type(state)(trainable, Prototypes(saved["global-prototypes"], saved["known-classes"]))
    one, other = (method.update_prototypes(each, SENT, Draws(0, 2)).prototypes.vectors for each in (state, restored))
    assert torch.equal(one, other)


def test_hyper_prototypes_take_the_prototypes_place(make):
    method, state = started(make, method__prototypes="hyper", fedtgp__weight=3.0)
    assert method.server_rates == ("hyper-prototypes.matching-lr",)  # not that of prototypes that nobody trains
    sent = method.broadcast(state)
    assert set(sent) == {"hyper-prototypes"} == set(method.tensors(state))
    loss = method.local_loss(make.arrival(method.config, make.model(), make.data(), sent))
    z, labels = drawn(8, 3, WIDTH), torch.tensor([0, 2, 3])
    means_of_s = sent["hyper-prototypes"].mean(1)
    wanted = 3.0 * sum(float(((z[i] - means_of_s[c]) ** 2).mean()) for i, c in enumerate((0, 2, 3))) / 3
    assert float(loss(Batch(torch.empty(3, 1), labels, z))) == pytest.approx(wanted, rel=1e-5)


@pytest.mark.parametrize(
    ("key", "wrong"),
    [("weight", -1.0), ("server_epochs", -1), ("server_lr", 0.0), ("server_batch_size", 0), ("margin_threshold", -0.5)],
)
def test_wrong_settings_are_named(make, key, wrong):
    with pytest.raises(ConfigError, match=rf"^fedtgp\.{key.replace('_', '-')} = {wrong}: it must be"):
        make.config("fedtgp", **{f"fedtgp__{key}": wrong})
