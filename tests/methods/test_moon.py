"""MOON's model-contrastive loss, against a double loop, and the memory that it needs."""

import copy
import math
from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from client_app.visit import visit
from fedhpro_flwr.client.personal import PersonalState, split_memory
from fedhpro_flwr.methods import Batch, build_method

MU, TAU = 2.0, 0.3


def settings(make, **changes):
    return make.config("moon", moon__mu=MU, moon__temperature=TAU, **changes)


def features(encoder, x):
    """In eval mode, float64, with the encoder left alone."""
    return copy.deepcopy(encoder).double().eval()(x.double()).detach()


def loss_by_hand(z, received, previous):
    total = 0.0
    for own, right, wrong in zip(z.double(), received, previous, strict=True):
        masses = []
        for other in (right, wrong):
            dot = norm = other_norm = 0.0
            for a, b in zip(own, other, strict=True):
                dot, norm, other_norm = dot + a * b, norm + a * a, other_norm + b * b
            masses.append(torch.exp(dot / torch.sqrt(norm * other_norm) / TAU))
        total = total - torch.log(masses[0] / (masses[0] + masses[1]))
    return MU * total / len(z)


def some_batch(make, seed=4):
    draw = torch.Generator().manual_seed(seed)
    x = torch.randn(7, make.inputs, generator=draw)
    z = torch.randn(7, make.width, generator=draw).requires_grad_()
    return Batch(x, torch.tensor([0, 1, 3, 0, 1, 3, 0]), z)


def arrival_with_memory(make):
    memory = {name: value.clone() for name, value in make.model(7).encoder.state_dict().items()}
    return make.arrival(settings(make), make.model(), make.data(), memory=memory, server_round=2)


def test_the_loss_and_its_gradient(make):
    arrival, batch = arrival_with_memory(make), some_batch(make)
    loss = build_method(settings(make)).local_loss(arrival)(batch)
    wanted = loss_by_hand(batch.z, features(make.model().encoder, batch.x), features(make.model(7).encoder, batch.x))
    assert loss.item() == pytest.approx(wanted.item(), rel=1e-5)
    (gradient,) = torch.autograd.grad(loss, batch.z)
    torch.testing.assert_close(gradient, torch.autograd.grad(wanted, batch.z)[0], rtol=1e-4, atol=1e-6)


def test_at_the_first_visit_there_is_no_term(make):
    assert build_method(settings(make)).local_loss(make.arrival(settings(make), make.model(), make.data())) is None
    ours = visit(make.model(9), make.data(), make.received(settings(make, local__epochs=3), make.model()))
    fedavg = visit(make.model(9), make.data(), make.received(make.config("fedavg", local__epochs=3), make.model()))
    assert all(torch.equal(ours.model[name], value) for name, value in fedavg.model.items())


def test_the_published_term_of_equal_models_is_a_constant(make):
    memory = {name: value.clone() for name, value in make.model().encoder.state_dict().items()}
    arrival = make.arrival(settings(make), make.model(), make.data(), memory=memory)
    batch = some_batch(make)
    loss = build_method(settings(make)).local_loss(arrival)(batch)
    assert loss.item() == pytest.approx(MU * math.log(2), rel=1e-6)
    (gradient,) = torch.autograd.grad(loss, batch.z)
    assert gradient.abs().max() < 1e-6


def test_the_other_encoders_are_in_eval_mode_and_have_no_gradient(make):
    arrival, batch = arrival_with_memory(make), some_batch(make)
    before = {name: value.clone() for name, value in arrival.model.state_dict().items()}
    memory = {name: value.clone() for name, value in arrival.memory.items()}
    loss = build_method(settings(make)).local_loss(arrival)
    arrival.model.train()
    x = batch.x.clone().requires_grad_()
    together = loss(Batch(x, batch.labels, batch.z))
    together.backward()
    assert x.grad is None  # nothing goes through them
    assert all(parameter.grad is None for parameter in arrival.model.parameters())
    # In train mode BatchNorm would couple the samples of a batch, and refuse a batch of one.
    alone = [loss(Batch(batch.x[i : i + 1], batch.labels[i : i + 1], batch.z[i : i + 1])) for i in range(7)]
    torch.testing.assert_close(torch.stack(alone).mean(), together)
    assert torch.equal(loss(batch), together)
    assert all(torch.equal(arrival.model.state_dict()[name], value) for name, value in before.items())
    assert all(torch.equal(arrival.memory[name], value) for name, value in memory.items())


def test_they_stand_still_while_the_model_trains(make):
    arrival, batch = arrival_with_memory(make), some_batch(make)
    loss = build_method(settings(make)).local_loss(arrival)
    before = loss(batch)
    with torch.no_grad():
        for parameter in arrival.model.parameters():
            parameter.mul_(-3.0)
    assert torch.equal(loss(batch), before)


def test_the_previous_model_is_found_again_in_the_clients_files(make, tmp_path):
    state = PersonalState(tmp_path / "client-0", visit="1-00000000")
    first = visit(make.model(9), make.data(), make.received(settings(make), make.model()), state=state)
    state = replace(state, visit="2-00000000", after="1-00000000")
    model, memory = split_memory(state.before())
    assert model == {}  # all of the model travels
    encoder = {name.removeprefix("encoder."): value for name, value in first.model.items() if "encoder" in name}
    assert memory.keys() == encoder.keys()
    assert all(torch.equal(memory[name], value) for name, value in encoder.items())

    start = make.model(5)  # the global model of round 2
    received = make.received(settings(make), start, server_round=2)
    second = visit(make.model(9), make.data(), received, state=state)
    previous = make.model(9)
    previous.load_state_dict(first.model)
    train = make.data().train
    x = (train.inputs - 0.1) / 2.0
    by_hand = make.model(5).train()
    z = by_hand.encoder(x)
    term = loss_by_hand(z, features(start.encoder, x), features(previous.encoder, x))
    loss = F.cross_entropy(by_hand.head(z), train.labels) + term
    gradients = torch.autograd.grad(loss, list(by_hand.parameters()))
    assert second.metrics["train-loss"] == pytest.approx(loss.item(), rel=1e-5)
    for (name, value), gradient in zip(by_hand.named_parameters(), gradients, strict=True):
        torch.testing.assert_close(second.model[name], value.detach() - 0.1 * gradient, rtol=1e-4, atol=1e-5, msg=name)


def test_a_round_played_again_begins_with_the_same_memory(make, tmp_path):
    state = PersonalState(tmp_path / "client-0", visit="1-00000000")
    visit(make.model(9), make.data(), make.received(settings(make), make.model()), state=state)
    state = replace(state, visit="2-00000000", after="1-00000000")
    received = make.received(settings(make), make.model(5), server_round=2)
    one = visit(make.model(9), make.data(), received, state=state).model
    kept = {name: value.clone() for name, value in one.items()}
    two = visit(make.model(9), make.data(), received, state=state).model
    assert all(torch.equal(two[name], value) for name, value in kept.items())


def test_the_server_averages_as_fedavg(make):
    clients = [make.data(seed) for seed in range(2)]
    ours = make.run(settings(make, partition__num_partitions=2, rounds=1), clients)
    fedavg = make.run(make.config("fedavg", partition__num_partitions=2, rounds=1), clients)
    assert all(torch.equal(ours.model.shared[name], value) for name, value in fedavg.model.shared.items())
    assert ours.tensors() == {}
