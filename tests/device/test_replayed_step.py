"""Steps that are recorded and replayed: by the CPU in place of a GPU, and by a GPU where there is one."""

import copy
import logging
from dataclasses import replace

import pytest
import torch
from recorded_device import CpuRecorder
from test_on_a_device import CASES, new_data, new_model, rounds_of_messages, settings
from torch.nn import functional as F

from client_app.visit import train, visit
from fedhpro_flwr.client.personal import PersonalState
from fedhpro_flwr.client.replayed_step import WARM_UP, ReplayedStep, as_cuda_graph
from fedhpro_flwr.methods import Arrival, build_method
from fedhpro_flwr.precision import repeat_on_gpu
from fedhpro_flwr.seeding import Draws
from fedhpro_flwr.sgd import LocalSGD

EPOCHS = 5  # of three steps, the last of which has a smaller batch
REPLAYED = 2 * (EPOCHS - 1)  # the first epoch is the warm-up


def replaying(monkeypatch):
    """Let local training record its steps; the recorders that it takes."""
    recorders = []

    def recorded(step, local, device):
        recorders.append(CpuRecorder())
        return ReplayedStep(step, recorders[-1])

    monkeypatch.setattr("client_app.visit.as_cuda_graph", recorded)
    return recorders


@pytest.mark.parametrize("changes", CASES, ids=lambda changes: "-".join(map(str, changes.values())))
def test_a_visit_of_replayed_steps_is_the_same(tmp_path, monkeypatch, changes):
    config = settings(**changes, local__epochs=EPOCHS)
    model, data = new_model(config.model.name), new_data()
    other = copy.deepcopy(model)
    states = [PersonalState(tmp_path / name, visit="1-00000000") for name in ("computed", "replayed")]
    messages = rounds_of_messages(config, model, build_method(config))
    received = next(messages)
    for server_round in (1, 2):
        wanted = visit(model, data, received, state=states[0])
        with monkeypatch.context() as patched:
            recorders = replaying(patched)
            update = visit(other, data, received, state=states[1])
        assert [(r.apart_calls, r.recordings, r.replays) for r in recorders] == [(WARM_UP, 1, REPLAYED)]
        for name, tensor in wanted.model.items():
            assert torch.equal(update.model[name], tensor), name
        for name, tensor in wanted.tensors.items():
            assert torch.equal(update.tensors[name], tensor), name
        assert update.metrics["train-loss"] == wanted.metrics["train-loss"]
        assert all(parameter.grad is None for parameter in other.parameters())
        if server_round == 1:
            states = [replace(state, visit="2-00000000", after=state.visit) for state in states]
            received = messages.send(wanted)


def problem():
    """Weights of a linear model, its step of SGD, and batches of 4 and one of 2."""
    draw = torch.Generator().manual_seed(0)
    weights = torch.zeros(3, 5, requires_grad=True)
    optimizer = LocalSGD([weights], lr=0.1, momentum=0.9, weight_decay=0.01)

    def step(x, labels):
        loss = F.cross_entropy(x @ weights.T, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.detach()

    sizes = [2] + 9 * [4] + [2, 4, 4]
    batches = [(torch.randn(size, 5, generator=draw), torch.arange(size) % 3) for size in sizes]
    return weights, step, batches


def test_the_shape_of_the_first_batch_is_the_one_that_is_replayed():
    weights, step, batches = problem()
    recorder = CpuRecorder()
    replayed = ReplayedStep(step, recorder)
    losses = [float(replayed(*batch)) for batch in batches]
    assert (recorder.recordings, recorder.replays) == (1, 1)  # of the two batches of 2, the first is warm-up
    same, step, batches = problem()
    assert losses == [float(step(*batch)) for batch in batches]
    assert torch.equal(weights, same)


def test_what_cannot_be_recorded_is_computed(caplog):
    weights, step, batches = problem()

    def waiting(x, labels):
        return step(x, labels) * (1.0 if float(x.sum()) > -1e9 else 0.0)

    recorder = CpuRecorder()
    replayed = ReplayedStep(waiting, recorder)
    with caplog.at_level(logging.WARNING, "flwr"):
        losses = [float(replayed(*batch)) for batch in batches[1:]]
    assert (recorder.recordings, recorder.replays) == (1, 0)  # it is tried once
    warnings = [record.getMessage() for record in caplog.records]
    assert warnings == [
        "local.cuda-graph: steps are not replayed: operation not permitted when stream is capturing: "
        "aten._local_scalar_dense.default"
    ]
    same, step, batches = problem()
    assert losses == [float(step(*batch)) for batch in batches[1:]]
    assert torch.equal(weights, same)


def test_a_recording_repeats_what_the_host_decided():
    """So that the stand-in finds a step that would not be the same on a GPU."""
    weights = torch.zeros(())
    calls = []

    def step(x, labels):
        calls.append(len(calls))
        weights.add_(len(calls))
        return weights.clone()

    replayed = ReplayedStep(step, CpuRecorder())
    losses = [float(replayed(torch.ones(1), torch.zeros(1))) for _ in range(WARM_UP + 3)]
    assert losses == [1, 3, 6, 10, 14, 18] and len(calls) == WARM_UP + 1


def test_a_step_is_replayed_only_on_a_gpu_and_where_asked_for():
    def step(x, labels):
        raise AssertionError

    for cuda_graph in (False, True):
        local = settings(local__cuda_graph=cuda_graph).local
        assert as_cuda_graph(step, local, torch.device("cpu")) is step
    assert as_cuda_graph(step, settings().local, torch.device("cuda")) is step


@pytest.mark.skipif(not torch.cuda.is_available(), reason="NO GPU: CUDA graphs were not tried on a card")
def test_a_gpu_replays_the_same_bits(caplog):
    repeat_on_gpu(True)
    device = torch.device("cuda")
    for changes in CASES:
        trained, left = [], []
        for cuda_graph in (False, True, True):
            config = settings(**changes, local__epochs=EPOCHS, local__cuda_graph=cuda_graph)
            model, method = new_model(config.model.name), build_method(config)
            received = next(rounds_of_messages(config, model, method))
            model.to(device)
            data = new_data().to(device)
            arrival = Arrival(model, data, received, Draws(0, 1, 0), {})
            loss, correction = method.local_loss(arrival), method.correction(arrival)
            train(model, data, config.local, loss, Draws(0, 1, 0), correction, method.logit_offsets(arrival))
            trained.append({name: tensor.cpu() for name, tensor in model.state_dict().items()})
            left.append(torch.cuda.memory_allocated())
        assert left[1] == left[2], (changes, "a recording is still in memory")
        for name, tensor in trained[0].items():
            assert torch.equal(tensor, trained[1][name]), (changes, name)
    assert caplog.records == []  # each was recorded
