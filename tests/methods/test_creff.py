"""CReFF: what the client sends and what the server computes, by autograd and by the calibration's own brute force."""

from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from fedhpro_flwr.config import RunConfig
from fedhpro_flwr.head import Head, head_of
from fedhpro_flwr.methods import build_method
from fedhpro_flwr.methods.class_samples import draw_class_samples
from fedhpro_flwr.methods.creff import Creff
from fedhpro_flwr.methods.head_calibration import Calibrated
from fedhpro_flwr.records import Update
from fedhpro_flwr.seeding import Draws
from fedhpro_flwr.timing import Stopwatch

FEW = {"creff__matching_steps": 1, "creff__epochs": 1, "creff__prototypes_per_class": 3, "creff__batch_size": 1000}


def drawn(seed, *shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def head_gradients(model, data, weight, bias):
    """Mean gradient of the cross-entropy with respect to W and b, class by class, by autograd."""
    model.eval()
    found = {}
    for label in data.train.labels.unique().tolist():
        w, b = weight.clone().requires_grad_(), bias.clone().requires_grad_()
        z = model.encoder(data.encoder_inputs(data.train.inputs[data.train.labels == label])).detach()
        F.cross_entropy(z @ w.T + b, torch.full((len(z),), label)).backward()
        found[label] = (w.grad, b.grad)
    return found


def test_a_client_sends_its_head_gradients_under_the_second_head(make):
    config, model, data = make.config("creff", **FEW), make.model(), make.data()
    second = {"signal-head-weight": torch.randn(4, 5), "signal-head-bias": torch.randn(4)}
    for sent, weight, bias in (
        ({}, model.head.weight.detach(), model.head.bias.detach()),  # round 1: the model's own
        (second, second["signal-head-weight"], second["signal-head-bias"]),
    ):
        upload = build_method(config).upload(make.arrival(config, model, data, sent))
        wanted = head_gradients(model, data, weight, bias)
        assert upload["class-ids"].tolist() == sorted(wanted) and upload["class-counts"].tolist() == [4, 4, 4]
        for place, label in enumerate(sorted(wanted)):
            torch.testing.assert_close(upload["head-weight-gradients"][place], wanted[label][0])
            torch.testing.assert_close(upload["head-bias-gradients"][place], wanted[label][1])
        assert upload.keys() == {"class-ids", "class-counts", "head-weight-gradients", "head-bias-gradients"}


def test_its_gradients_are_of_the_samples_that_class_gradients_chooses(make):
    config, model, data = make.config("creff", class_gradients__samples_per_class=2, **FEW), make.model(), make.data()
    upload = build_method(config).upload(make.arrival(config, model, data))
    chosen = draw_class_samples(data, 4, config.class_gradients, Draws(0, 1, 0))
    assert chosen.per_repeat.tolist() == [2, 2, 0, 2] and upload["class-counts"].tolist() == [4, 4, 4]
    w, b = (tensor.detach().requires_grad_() for tensor in head_of(model.state_dict()))
    for place, label in enumerate((0, 1, 3)):
        z = model.encoder(chosen.inputs[chosen.labels == label]).detach()
        gradients = torch.autograd.grad(F.cross_entropy(z @ w.T + b, torch.full((2,), label)), (w, b))
        torch.testing.assert_close(upload["head-weight-gradients"][place], gradients[0])
        torch.testing.assert_close(upload["head-bias-gradients"][place], gradients[1])


def test_clients_train_with_the_cross_entropy_alone(make):
    config = make.config("creff")
    assert build_method(config).local_loss(make.arrival(config, make.model(), make.data())) is None


@pytest.mark.parametrize("second", [None, Head(drawn(6, 4, 5), drawn(7, 4))], ids=["round 1", "later"])
def test_one_server_step_by_autograd(make, second):
    """F moves by one step on the row-wise cosine distance, and a fresh head by one epoch of one batch on F.

    Under the head that the clients had: the second, in round 1 that of the model they received, not the averaged one.
    """
    config, model = make.config("creff", **FEW), make.model()
    method = build_method(config)
    clients = [make.data(seed=1, labels=(0, 1, 3)), make.data(seed=2, labels=(1, 2))]
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    state = replace(method.start(weights), head=second)
    arrivals = [make.arrival(config, model, data, method.broadcast(state)) for data in clients]
    updates = [Update(k, 12, weights, method.upload(arrival)) for k, arrival in enumerate(arrivals)]
    averaged = make.model(3).state_dict()
    step = method.server_step(state, weights, averaged, updates, Draws(0, 1), Stopwatch())
    assert all(step.model[name] is averaged[name] for name in averaged)  # it stays

    used = second or head_of(weights)
    sent = [head_gradients(model, data, used.weight, used.bias) for data in clients]
    features = state.prototypes.double().clone().requires_grad_()
    w, b = (tensor.double().requires_grad_() for tensor in used)
    distance = 0
    for label in range(4):
        held = [each[label] for each in sent if label in each]
        target_w = torch.stack([g[0] for g in held]).double().mean(0)
        target_b = torch.stack([g[1] for g in held]).double().mean(0)
        logits = features[label] @ w.T + b
        loss = F.cross_entropy(logits, torch.full((len(logits),), label))
        g_w, g_b = torch.autograd.grad(loss, (w, b), create_graph=True)
        for mine, theirs in [*zip(g_w, target_w, strict=True), (g_b, target_b)]:
            distance = distance + 1 - mine @ theirs / (mine.norm() * theirs.norm() + 1e-6)
    (pull,) = torch.autograd.grad(distance, features)
    moved = features.detach() - config.creff.matching_lr * pull
    torch.testing.assert_close(step.state.prototypes.double(), moved, rtol=1e-4, atol=1e-5)

    bound = 5**-0.5
    generator = Draws(0, 1).torch("calibration-head")
    start_w = torch.empty(4, 5).uniform_(-bound, bound, generator=generator)
    start_b = torch.empty(4).uniform_(-bound, bound, generator=generator)
    w, b = start_w.requires_grad_(), start_b.requires_grad_()
    x, labels = step.state.prototypes.reshape(-1, 5), torch.arange(4).repeat_interleave(3)
    F.cross_entropy(x @ w.T + b, labels).backward()
    torch.testing.assert_close(step.state.head.weight, (w - config.creff.lr * w.grad).detach())
    torch.testing.assert_close(step.state.head.bias, (b - config.creff.lr * b.grad).detach())
    z = torch.randn(3, 5)
    head = method.tested_head(method.broadcast(step.state))
    torch.testing.assert_close(head.scores(z), z @ step.state.head.weight.T + step.state.head.bias)


def test_its_settings_are_its_own_section():
    config = RunConfig.parse({"method.name": "creff", "preset": "reference", "creff.epochs": 7})
    options = Creff(config).options
    assert (options.head, options.epochs, options.prototypes_per_class, options.first_head) == (
        "separate", 7, 100, "model",
    )  # fmt: skip


def test_before_round_one_there_is_no_second_head(make):
    method = build_method(make.config("creff", **FEW))
    state = method.start(dict(make.model().state_dict()))
    assert isinstance(state, Calibrated) and state.prototypes.shape == (4, 3, 5)
    assert method.broadcast(state) == {} and method.tested_head(method.broadcast(state)) is None
