"""Whole visits on a device that is not the CPU's, without one: nothing is on the wrong side, and no step waits."""

import copy
import warnings
from dataclasses import replace

import pytest
import torch
from pretended_device import DEVICE, OnDevice, PretendedDevice, moved_there
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from client_app.visit import own_test, train, visit
from fedhpro_flwr.aggregation import weighted_mean
from fedhpro_flwr.client import local_steps
from fedhpro_flwr.client.local_steps import epoch
from fedhpro_flwr.client.personal import PersonalState
from fedhpro_flwr.client_data import ClientData
from fedhpro_flwr.config import RunConfig
from fedhpro_flwr.data import Split
from fedhpro_flwr.exchange import exchanged
from fedhpro_flwr.methods import METHODS, Arrival, build_method
from fedhpro_flwr.models import build
from fedhpro_flwr.records import Broadcast, Task, pack_test, pack_update
from fedhpro_flwr.seeding import Draws
from fedhpro_flwr.timing import Stopwatch

CLASSES, SAMPLES, SIDE = 4, 22, 10
CASES = [
    *({"method__name": name} for name in METHODS),
    {"preset": "reference", "local__augment": "per-batch"},
    {"preset": "tuned", "local__augment": "per-sample"},
    {"losses__correction": "control-variates"},
    {"losses__margin_pairs": "near"},
    {"method__name": "fedtgp", "method__prototypes": "hyper"},
    {"privacy__class_clip": 0.5, "privacy__class_noise": 0.1, "privacy__noise": "seeded"},
    {"privacy__model_clip": 1.0, "privacy__model_noise": 0.1, "privacy__noise": "seeded"},
    {"model__name": "resnet10", "local__augment": "per-sample"},
    {"evaluation__nearest_prototype": True, "method__name": "fedproto"},
]


def settings(**changes):
    defaults = {"local__epochs": 2, "local__batch_size": 8, "model__width": 16, "partition__num_partitions": 3}
    return RunConfig.parse(**(defaults | changes))


def new_model(name="cnn"):
    return build(name, input_shape=(3, SIDE, SIDE), num_classes=CLASSES, width=16, vocabulary=0, path="", seed=3)


def new_data(samples=SAMPLES):
    draw = torch.Generator().manual_seed(1)
    splits = [
        Split(
            torch.randint(0, 256, (count, 3, SIDE, SIDE), generator=draw, dtype=torch.uint8),
            torch.arange(count) % (CLASSES - 1),  # nobody is of the last class
        )
        for count in (samples, 7)
    ]
    return ClientData(*splits, mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.4))


def rounds_of_messages(config, model, method):
    """What a client receives in rounds 1 and 2, where it was the only one, computed on the CPU."""
    weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    state = method.start(weights)
    for server_round in (1, 2):
        task = Task(server_round, 0, evaluate=not config.privacy.withhold, run="ab")
        update = yield Broadcast(exchanged(weights, method.share), method.broadcast(state), config, task)
        mean = weighted_mean([update.model], [1.0]) if update.model else weights
        step = method.server_step(
            state, weights, {**weights, **mean}, [update], Draws(config.seed, server_round), Stopwatch()
        )
        weights, state = dict(step.model), step.state


@pytest.mark.filterwarnings("ignore:for .* copying from a non-meta parameter")
@pytest.mark.parametrize("changes", CASES, ids=lambda changes: "-".join(map(str, changes.values())))
def test_a_visit_is_the_same_there(tmp_path, changes):
    config = settings(**changes)
    model, data = new_model(config.model.name), new_data()
    there = copy.deepcopy(model)
    moved_there(there)
    states = [PersonalState(tmp_path / name, visit="1-00000000") for name in ("here", "there")]
    messages = rounds_of_messages(config, model, build_method(config))
    received = next(messages)
    for _ in range(2):
        wanted = visit(model, data, received, state=states[0])
        with PretendedDevice() as device:
            data_there = data.to(DEVICE)
            assert isinstance(data_there.train.inputs, OnDevice)
            update = visit(there, data_there, received, state=states[1])
            packed = pack_update(update)
        assert device.crossings  # it was used at all
        expected = pack_update(wanted)
        for name in expected.array_records:
            for key, array in expected[name].items():
                assert array.data == packed[name][key].data, (name, key)
        assert update.metrics["train-loss"] == wanted.metrics["train-loss"]
        states = [replace(state, visit="2-00000000", after=state.visit) for state in states]
        try:
            received = messages.send(wanted)
        except StopIteration:
            break
    with PretendedDevice():
        assert pack_test(own_test(there, data_there, received, state=states[1])) is not None


@pytest.mark.parametrize("changes", CASES, ids=lambda changes: "-".join(map(str, changes.values())))
def test_no_step_waits_or_copies(tmp_path, changes):
    config, crossings = settings(**changes), []
    for samples in (16, 80):  # 2 and 10 steps an epoch
        model, method = new_model(config.model.name), build_method(config)
        messages = rounds_of_messages(config, model, method)
        state = PersonalState(tmp_path / str(samples), visit="1-00000000")
        received = messages.send(visit(model, new_data(), next(messages), state=state))
        memory = {
            name.removeprefix("memory."): tensor
            for name, tensor in (replace(state, after=state.visit).before() or {}).items()
            if name.startswith("memory.")
        }
        moved_there(model)
        with PretendedDevice() as device, warnings.catch_warnings():
            warnings.filterwarnings("ignore", "for .* copying from a non-meta parameter")
            data = new_data(samples).to(DEVICE)
            arrival = Arrival(model, data, received, Draws(0, 2, 0), memory)
            loss, correction = method.local_loss(arrival), method.correction(arrival)
            device.crossings.clear()
            train(model, data, config.local, loss, Draws(0, 2, 0), correction)
        crossings.append(device.crossings)
    assert crossings[0] == crossings[1]
    assert crossings[0].count("aten._local_scalar_dense") == 1  # the loss of the last epoch, when all is done


class Asked(TorchDispatchMode):
    """Counts what the device is asked to compute."""

    count = 0

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        self.count += any(isinstance(leaf, OnDevice) for leaf in tree_leaves(args)) and not operation.is_view
        return operation(*args, **(kwargs or {}))


@pytest.mark.parametrize("augment", ["none", "per-sample"])
def test_small_images_are_prepared_for_all_batches_at_once(monkeypatch, augment):
    local, counts = settings(local__augment=augment).local, {}
    for samples in (16, 80):  # 2 and 10 steps
        with PretendedDevice(), Asked() as asked:
            data = new_data(samples).to(DEVICE)
            batches = list(epoch(data, local, *(torch.Generator().manual_seed(seed) for seed in (0, 1))))
        assert [len(labels) for _, labels in batches] == samples // 8 * [8]
        counts[samples] = asked.count
    assert counts[16] == counts[80]
    monkeypatch.setattr(local_steps, "AT_ONCE", 5 * 8 * 3 * SIDE * SIDE)  # of larger images fewer
    with PretendedDevice():
        parted = list(epoch(data, local, *(torch.Generator().manual_seed(seed) for seed in (0, 1))))
    for (x, labels), (same_x, same_labels) in zip(batches, parted, strict=True):
        assert torch.equal(x.held, same_x.held) and torch.equal(labels.held, same_labels.held)
        assert x.is_contiguous(memory_format=torch.channels_last)


def test_what_crosses_is_found():
    with PretendedDevice() as device:
        x = torch.arange(3.0).to(DEVICE)
        assert float((2 * x).sum()) == 6
        assert x[x > 0].shape == (2,)
        assert x[torch.tensor([1])].cpu().tolist() == [1]
        torch.tensor([1.0], device=DEVICE)
        with pytest.raises(RuntimeError, match="mixes tensors"):
            x + torch.ones(3)
    names = ["_to_copy", "_local_scalar_dense", "index", "index", "_to_copy", "_to_copy"]
    assert device.crossings == [f"aten.{name}" for name in names]
