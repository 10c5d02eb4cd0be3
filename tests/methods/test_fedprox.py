"""FedProx's pull towards the received model, against autograd and a loop of SGD by hand."""

import pytest
import torch
from torch.nn import functional as F

from client_app.visit import visit
from fedhpro_flwr.config import ConfigError
from fedhpro_flwr.methods import build_method

MU = 0.7


def test_the_correction_is_the_gradient_of_the_proximal_term(make):
    config, model = make.config("fedprox", fedprox__mu=MU), make.model()
    correction = build_method(config).correction(make.arrival(config, model, make.data()))
    received = [parameter.detach().clone() for parameter in model.parameters()]
    draw = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=draw))
    base = [torch.randn(parameter.shape, generator=draw) for parameter in model.parameters()]
    term = MU / 2 * sum(((w - r) ** 2).sum() for w, r in zip(model.parameters(), received, strict=True))
    wanted = torch.autograd.grad(term, list(model.parameters()))
    for parameter, gradient in zip(model.parameters(), base, strict=True):
        parameter.grad = gradient.clone()
    correction()
    for parameter, gradient, pull in zip(model.parameters(), base, wanted, strict=True):
        torch.testing.assert_close(parameter.grad, gradient + pull, rtol=1e-5, atol=1e-6)


def test_what_is_not_trained_is_left_alone(make):
    config, model = make.config("fedprox", fedprox__mu=MU), make.model()
    model.encoder[0].weight.requires_grad_(False)
    correction = build_method(config).correction(make.arrival(config, model, make.data()))
    model.head.bias.grad = torch.ones(make.classes)
    correction()
    assert model.encoder[0].weight.grad is None
    assert model.head.weight.grad is None  # the batch gave it none
    assert torch.equal(model.head.bias.grad, torch.ones(make.classes))  # not moved yet


def test_an_encoder_that_stays_with_its_client_is_pulled_nowhere(make):
    config, model = make.config("fedprox", fedprox__mu=MU, model__share="head"), make.model()
    correction = build_method(config).correction(make.arrival(config, model, make.data()))
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
        with torch.no_grad():
            parameter.add_(1.0)
    correction()
    for name, parameter in model.named_parameters():
        pull = MU if name.startswith("head.") else 0.0
        torch.testing.assert_close(parameter.grad, torch.full_like(parameter, pull), rtol=1e-4, atol=1e-6)


def visit_by_hand(make, mu, *, steps, lr, momentum, decay):
    """Full-batch SGD on CE + mu / 2 |w - w_r|^2 in float64, the term differentiated with the rest."""
    model, train = make.model().double().train(), make.data().train
    received = [parameter.detach().clone() for parameter in model.parameters()]
    velocity = [torch.zeros_like(parameter) for parameter in received]
    losses = []
    for _ in range(steps):
        cross_entropy = F.cross_entropy(model((train.inputs.double() - 0.1) / 2.0), train.labels)
        pull = sum(((w - r) ** 2).sum() for w, r in zip(model.parameters(), received, strict=True))
        gradients = torch.autograd.grad(cross_entropy + mu / 2 * pull, list(model.parameters()))
        losses.append(cross_entropy.item())
        with torch.no_grad():
            for w, v, g in zip(model.parameters(), velocity, gradients, strict=True):
                v.mul_(momentum).add_(g + decay * w)
                w.sub_(lr * v)
    return model, losses


def test_one_visit_is_the_loop_by_hand(make):
    config = make.config(
        "fedprox", fedprox__mu=MU, local__epochs=4, local__momentum=0.9, local__lr=0.2, local__weight_decay=0.01
    )
    update = visit(make.model(9), make.data(), make.received(config, make.model()))
    wanted, losses = visit_by_hand(make, MU, steps=4, lr=0.2, momentum=0.9, decay=0.01)
    free, _ = visit_by_hand(make, 0.0, steps=4, lr=0.2, momentum=0.9, decay=0.01)
    for name, value in wanted.named_parameters():
        torch.testing.assert_close(update.model[name].double(), value.detach(), rtol=1e-4, atol=1e-5, msg=name)
    assert (wanted.head.weight - free.head.weight).abs().max() > 1e-2  # the term is seen
    assert update.metrics["train-loss"] == pytest.approx(losses[-1], rel=1e-5)  # of the last epoch, without the term
    assert update.tensors == {}


def test_without_a_weight_it_is_fedavg(make):
    config = make.config("fedprox", fedprox__mu=0.0, local__epochs=3)
    ours = visit(make.model(9), make.data(), make.received(config, make.model()))
    fedavg = visit(make.model(9), make.data(), make.received(make.config("fedavg", local__epochs=3), make.model()))
    assert all(torch.equal(ours.model[name], value) for name, value in fedavg.model.items())


def test_a_negative_weight_is_refused(make):
    with pytest.raises(ConfigError, match=r"^fedprox\.mu = -1.0: it must be"):
        make.config("fedprox", fedprox__mu=-1.0)
