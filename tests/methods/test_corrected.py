"""FedHPro with SCAFFOLD's control variates: each half is the method that it comes from, bit for bit."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from client_app.visit import batch_loss, visit
from fedhpro_flwr import methods
from fedhpro_flwr.config import ConfigError
from fedhpro_flwr.exchange import load
from fedhpro_flwr.methods import build_method
from fedhpro_flwr.methods.corrected import CorrectedFedHPro
from fedhpro_flwr.methods.fedhpro import FedHPro
from fedhpro_flwr.methods.scaffold import total_weight
from fedhpro_flwr.registry import Registry
from fedhpro_flwr.seeding import Draws
from fedhpro_flwr.timing import Stopwatch
from server_app.strategy import FedHProStrategy

LR = 0.1
FROZEN = {"hyper_prototypes__matching_steps": 0, "hyper_prototypes__prototypes_per_class": 2}
NO_LOSSES = {"losses__hpcl": "off", "losses__hpal": "off", "losses__margin": "none"}


def config(make, method="fedhpro", correction="control-variates", **changes):
    defaults = {"partition__num_partitions": 3, "local__epochs": 3, "local__lr": LR, "rounds": 3, **FROZEN}
    return make.config(method, losses__correction=correction, **(defaults | changes))


def clients(make):
    return [make.data(seed, labels, 6 + 3 * seed) for seed, labels in enumerate([(0, 1), (1, 3), (0, 3)])]


def bits(tensors):
    return {name: tensor.numpy().tobytes() for name, tensor in tensors.items()}


@pytest.mark.parametrize("weighting", ["clients", "samples"])
def test_without_the_losses_it_is_scaffold_with_the_same_means(make, states_of_clients, weighting):
    ours = make.run(config(make, aggregation__weighting=weighting, **NO_LOSSES), clients(make))
    theirs = make.run(config(make, "scaffold", scaffold__weighting=weighting), clients(make))
    assert bits(ours.model.shared) == bits(theirs.model.shared)
    assert torch.equal(ours.state.control.control, theirs.state.control)
    assert ours.method_metrics["control-variate-norm"] == theirs.method_metrics["control-variate-norm"] > 0


def test_the_first_visit_is_fedhpros(make, states_of_clients):
    """All control variates are zero before anybody has trained."""
    updates = []
    for correction in ("control-variates", "none"):
        settings = config(make, correction=correction)
        method = build_method(settings)
        sent = method.broadcast(method.start(make.model().state_dict()))
        updates.append(visit(make.model(9), make.data(), make.received(settings, make.model(), sent)))
    corrected, plain = updates
    assert bits(corrected.model) == bits(plain.model)
    assert bits(corrected.tensors) == bits(plain.tensors)  # and nothing more is sent


def test_what_is_corrected_is_the_gradient_of_the_whole_loss(make):
    """w - lr (grad (CE + HPCL + HPAL) - c_k + c), in one full batch."""
    settings = config(make, local__epochs=1, rounds=1)
    method, data, draw = build_method(settings), make.data(), torch.Generator().manual_seed(5)
    assert isinstance(method, CorrectedFedHPro)
    sent = method.broadcast(method.start(make.model().state_dict()))
    server = torch.randn(len(sent["control-variate"]), generator=draw)
    sent["control-variate"] = server
    arrival = make.arrival(settings, make.model(), data, sent)
    plain = FedHPro(settings).local_loss(arrival)
    assert plain is not None
    model = make.model()
    model.train()
    batch_loss(model, (data.train.inputs - 0.1) / 2.0, data.train.labels, plain).backward()
    update = visit(make.model(9), data, make.received(settings, make.model(), sent))
    at = 0
    before = make.model().state_dict()
    gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
    for name, tensor in before.items():
        if not tensor.is_floating_point():
            continue
        shift = server[at : at + tensor.numel()].view(tensor.shape)  # c - c_k, the client's own being zero
        at += tensor.numel()
        if name in gradients:
            torch.testing.assert_close(
                update.model[name], tensor - LR * (gradients[name] + shift), rtol=1e-4, atol=1e-5, msg=name
            )
    assert at == len(server)


def test_the_models_mean_is_the_strategys_and_a_head_is_re_trained_after_it(make, states_of_clients):
    """Client 2 has twice the samples of client 0, and the weight of them."""
    kept = make.run(config(make, rounds=1), clients(make))
    encoder = [name for name in kept.model.shared if name.startswith("encoder.") and "num_batches" not in name]
    for name in encoder:
        mean = sum(update.num_examples * update.model[name].double() for update in kept.replies.good) / 27
        torch.testing.assert_close(kept.model.shared[name].double(), mean, rtol=1e-6, atol=1e-7)
    small = {"calibration__head": "replace", "calibration__prototypes_per_class": 3, "calibration__epochs": 2}
    trained = make.run(config(make, rounds=1, **small), clients(make))
    assert bits({name: trained.model.shared[name] for name in encoder}) == bits(
        {name: kept.model.shared[name] for name in encoder}
    )
    assert not torch.equal(trained.model.shared["head.weight"], kept.model.shared["head.weight"])


@pytest.mark.parametrize("per_round", [0, 2])
def test_control_variates_are_weighted_as_the_models_are(make, states_of_clients, per_round):
    """c is the mean of all c_k over samples, so what it adds to the steps cancels in the models' mean."""
    held = clients(make)
    settings = config(make, rounds=6, clients__per_round=per_round, **NO_LOSSES)
    strategy = make.run(settings, held)
    samples = [len(data.train) for data in held]
    assert samples == [6, 9, 12]
    assert strategy.state.control.weights.tolist() == samples
    own = [latest(states_of_clients, client) for client in range(3)]
    mean = sum(n * c.double() for n, c in zip(samples, own, strict=True)) / 27
    torch.testing.assert_close(strategy.state.control.control.double(), mean, rtol=1e-5, atol=1e-6)
    plain = sum(c.double() for c in own) / 3
    assert (plain - mean).abs().max() > 100 * (strategy.state.control.control - mean).abs().max()


def latest(states, client):
    """The control variate that this client keeps."""
    newest = max(states.glob(f"*/client-{client}/visit-*.safetensors"), key=lambda file: int(file.stem.split("-")[1]))
    return load_file(newest)["memory.control-variate"]


def test_those_who_never_came_count_as_the_mean_of_the_others():
    assert total_weight(torch.tensor([6, 0, 12])) == 27.0
    assert total_weight(torch.tensor([6, 9, 12])) == 27.0
    assert total_weight(torch.zeros(3, dtype=torch.int64)) == 0.0


def test_a_client_of_few_samples_moves_the_control_variate_by_no_more_than_its_share(make):
    """Its three samples against 60: with means over clients it would have half of c."""
    settings = config(make, partition__num_partitions=2, local__batch_size=20, **NO_LOSSES)
    held, model = [make.data(1, (0, 1), 3), make.data(2, (1, 3), 60)], make.model().state_dict()
    method = build_method(settings)
    assert isinstance(method, CorrectedFedHPro)
    state = method.start(model)
    received = make.received(settings, make.model(), method.broadcast(state))
    updates = [replace(visit(make.model(9), data, received), partition_id=k) for k, data in enumerate(held)]
    other_order = replace(updates[1], model=dict(reversed(updates[1].model.items())))
    sent = [updates[0], other_order]
    step = method.server_step(state, received.model, received.model, sent, Draws(0, 1), Stopwatch())
    zero = torch.zeros_like(state.control.control)
    few, many = (
        method.scaffold.change(received.model, update.model, zero, steps)
        for update, steps in zip(updates, (3, 9), strict=True)  # three epochs of one batch, and of three
    )
    torch.testing.assert_close(step.state.control.control, few * (3 / 63) + many * (60 / 63))


@pytest.mark.parametrize("name", ["scaffold", "fedhpro"])
def test_where_a_client_has_other_samples_than_before_all_begin_anew(make, name):
    """Its control variate was counted with their number, so c would no longer be the mean of all."""
    settings = config(make, name, scaffold__weighting="samples")
    method, model = build_method(settings), make.model().state_dict()
    state = method.start(model)
    received = make.received(settings, make.model(), method.broadcast(state))
    updates = [replace(visit(make.model(9), data, received), partition_id=k) for k, data in enumerate(clients(make))]
    found = []
    for samples in (9, 9, 10):
        updates[1] = replace(updates[1], num_examples=samples)
        step = method.server_step(state, model, model, updates, Draws(0, 1), Stopwatch())
        state = step.state
        found.append((step.voids, step.metrics["control-variate-norm"] > 0))
    assert found == [(False, True), (False, True), (True, False)]
    assert method.broadcast(state)["control-variate"].count_nonzero() == 0


def test_a_client_remembers_its_control_variate_and_nothing_else(make, states_of_clients):
    make.run(config(make), clients(make))
    (file,) = states_of_clients.glob("*/client-1/visit-3-*.safetensors")
    assert load_file(file).keys() == {"memory.control-variate"}


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"model__share": "head"}, "needs model.share = 'all', not 'head'"),
        ({"aggregation__model": "median"}, "is defined with means"),
        ({"aggregation__clip_to_median": True}, "is defined with means"),
        ({"privacy__model_clip": 1.0}, "reads control variates off the models that clients send"),
    ],
)
def test_refusals_name_the_way_out(make, changes, problem):
    with pytest.raises(ConfigError) as refused:
        FedHProStrategy(config(make, **changes))
    said = str(refused.value)
    assert said.startswith(f"losses.correction = 'control-variates' {problem}")
    assert said.endswith("or set losses.correction = 'none'")
    FedHProStrategy(config(make, correction="none", **changes))


def test_other_methods_do_not_know_of_it(make):
    assert type(build_method(config(make, "fedavg"))).__name__ == "FedAvg"


def test_what_does_not_fit_is_still_named(make):
    settings = config(make)
    method = build_method(settings)
    received = make.received(settings, make.model(), method.broadcast(method.start(make.model().state_dict())))
    received.model.pop("head.bias")
    with pytest.raises(ValueError, match=r"head\.bias is missing"):
        load(make.model(), received.model, method.share, {})


@pytest.fixture
def registered(monkeypatch):
    """Registers for this test alone."""
    monkeypatch.setattr(methods, "METHODS", Registry("method.name"))
    methods.METHODS.register("fedhpro")(FedHPro)
    return methods.METHODS.register


def test_a_method_made_of_fedhpro_is_corrected_too(make, registered, states_of_clients):
    """Its own hooks are called where FedHPro's would be: its broadcast halves what its clients are drawn to."""

    @registered("mine")
    class Mine(FedHPro):
        def broadcast(self, state):
            return {name: tensor / 2 for name, tensor in super().broadcast(state).items()}

    settings = config(make, "mine")
    method = build_method(settings)
    assert isinstance(method, CorrectedFedHPro) and isinstance(method, Mine)
    theirs, ours = make.run(config(make), clients(make)), make.run(settings, clients(make))
    halves = ours.method.broadcast(ours.state)["hyper-prototypes"]
    assert torch.equal(halves * 2, theirs.method.broadcast(theirs.state)["hyper-prototypes"])
    assert ours.method_metrics["control-variate-norm"] > 0
    assert type(build_method(config(make, "mine", correction="none"))) is Mine


def test_a_correction_of_its_own_is_not_hidden(make, registered):
    @registered("mine")
    class Mine(FedHPro):
        name = "mine"

        def correction(self, arrival):
            return None

    with pytest.raises(ConfigError, match=r"^losses\.correction = .* method\.name = 'mine' has a `correction` of its"):
        build_method(config(make, "mine"))
