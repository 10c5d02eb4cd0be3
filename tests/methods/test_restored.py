"""Every method's state after two rounds survives a checkpoint: nothing that comes of it differs in a bit."""

from __future__ import annotations

import pytest
import torch

from fedhpro_flwr.config import ConfigError
from fedhpro_flwr.methods import METHODS, Method, build_method
from fedhpro_flwr.methods.hook_checks import restored
from fedhpro_flwr.runs.checkpoint import About, Checkpoint
from fedhpro_flwr.seeding import Draws
from fedhpro_flwr.timing import Stopwatch

SMALL = {
    "partition__num_partitions": 3,
    "hyper_prototypes__prototypes_per_class": 2,
    "hyper_prototypes__matching_steps": 3,
    "calibration__prototypes_per_class": 3,
    "calibration__matching_steps": 2,
    "calibration__epochs": 2,
    "creff__prototypes_per_class": 3,
    "creff__matching_steps": 2,
    "creff__epochs": 2,
    "fedtgp__server_epochs": 2,
    "class_gradients__augment": "none",
}
VARIANTS = {
    "fedhpro, calibrated head replaced": ("fedhpro", {"calibration__head": "replace"}),
    "fedhpro, calibrated head apart": ("fedhpro", {"calibration__head": "separate"}),
    "fedhpro, fresh first head": ("fedhpro", {"calibration__head": "separate", "calibration__first_head": "fresh"}),
    "fedhpro, calibration waits": ("fedhpro", {"calibration__head": "separate", "calibration__from_imbalance": 1.5}),
    "fedhpro, calibration not yet": ("fedhpro", {"calibration__head": "replace", "calibration__from_imbalance": 1e6}),
    "fedhpro, counts by class": ("fedhpro", {"hyper_prototypes__counts": "1=4"}),
    "fedhpro, corrected": ("fedhpro", {"losses__correction": "control-variates"}),
    "fedproto, hyper": ("fedproto", {"method__prototypes": "hyper"}),
    "fedtgp, hyper": ("fedtgp", {"method__prototypes": "hyper"}),
    "fedsa, hyper": ("fedsa", {"method__prototypes": "hyper"}),
}
OURS = [name for name, found in METHODS.items() if found.__module__.startswith("fedhpro_flwr.methods.")]
CASES = {name: (name, {}) for name in OURS} | VARIANTS


def bits(tensors):
    return {name: (tensor.dtype, tensor.shape, tensor.numpy().tobytes()) for name, tensor in tensors.items()}


@pytest.mark.parametrize("case", CASES)
def test_a_state_survives_a_checkpoint_bit_for_bit(case, make, tmp_path, monkeypatch):
    name, changes = CASES[case]
    config = make.config(name, **(SMALL | changes))
    clients = [make.data(1), make.data(2, labels=(0, 3), samples=9), make.data(3, labels=(1, 0, 3, 0), samples=15)]
    rounds = []
    kind = next(each for each in type(build_method(config)).__mro__ if "server_step" in vars(each))
    step = kind.server_step

    def seen(method, state, sent, model, updates, draws, watch):
        """A step makes a new state and changes nothing that it is given: a checkpoint may still be written of it."""
        rounds.append((sent, model, updates))
        before = bits(method.tensors(state)), bits(sent), bits(model)
        found = step(method, state, sent, model, updates, draws, watch)
        assert (bits(method.tensors(state)), bits(sent), bits(model)) == before
        return found

    monkeypatch.setattr(kind, "server_step", seen)
    strategy = make.run(config, clients)
    monkeypatch.undo()
    method, state = strategy.method, strategy.state

    written = Checkpoint(About("ab", 2, settings={}, code="", data=""), strategy.model.shared, {}, method.saved(state))
    written.write(tmp_path / "round-2.safetensors")
    read = Checkpoint.read(tmp_path / "round-2.safetensors")
    assert bits(read.model(strategy.model).shared) == bits(strategy.model.shared)
    again = method.restored(method.start(dict(make.model().state_dict())), read.method)

    assert bits(method.saved(again)) == bits(method.saved(state))
    assert bits(method.broadcast(again)) == bits(method.broadcast(state))
    assert method.expects(again) == method.expects(state)
    z = torch.randn(6, make.width, generator=torch.Generator().manual_seed(3))
    heads = [method.tested_head(method.broadcast(each)) for each in (state, again)]
    nearest = [method.prototype_scores(method.broadcast(each)) for each in (state, again)]
    for one, other in ([head and head.scores for head in heads], nearest):
        assert (one is None) == (other is None)
        assert one is None or torch.equal(one(z), other(z))
    assert len(rounds) == 2
    following = [method.server_step(each, *rounds[-1], Draws(0, 3), Stopwatch()) for each in (state, again)]
    assert bits(following[0].model) == bits(following[1].model)
    assert bits(method.saved(following[0].state)) == bits(method.saved(following[1].state))
    assert following[0].metrics == following[1].metrics


def test_a_method_with_a_state_of_its_own_and_no_inverse_says_so(make):
    method = Method(make.config("fedavg"))
    assert method.restored(None, {}) is None
    with pytest.raises(ConfigError) as refused:
        method.restored(object(), {})
    assert str(refused.value) == ("method.name = 'fedavg' cannot be resumed: its class has a state and no `restored`")
    with pytest.raises(ConfigError, match="cannot be resumed"):  # one that begins at None and is something later
        method.restored(None, {"velocity": torch.ones(2)})
    assert method.saved(None) == {}
    with pytest.raises(ConfigError) as refused:
        method.saved({"velocity": torch.ones(2)})
    assert str(refused.value) == (
        "method.name = 'fedavg': its class has a state and no `restored`, so its checkpoints could not be resumed; "
        "write one, or set checkpoint.every = 0"
    )


@pytest.mark.parametrize("lacking", ["hyper-prototypes", "calibrates"])
def test_a_checkpoint_that_lacks_a_tensor_is_refused_by_its_name(make, lacking):
    method = build_method(make.config("fedhpro"))
    start = method.start(dict(make.model().state_dict()))
    saved = method.saved(start)
    with pytest.raises(ConfigError) as refused:
        restored(method, start, {key: tensor for key, tensor in saved.items() if key != lacking})
    assert str(refused.value) == (
        f"the checkpoint has no {lacking}, from which method.name = 'fedhpro' goes on: it is of other code; resume it "
        "with that which the run was begun with"
    )
    assert bits(method.saved(restored(method, start, saved))) == bits(saved)


def test_a_checkpoint_whose_prototypes_are_not_finite_is_not_blamed_on_the_clients(make):
    method = build_method(make.config("fedhpro"))
    start = method.start(dict(make.model().state_dict()))
    with pytest.raises(ConfigError) as refused:
        restored(method, start, method.saved(start) | {"hyper-prototypes": torch.full((4, 2, 8), torch.inf)})
    assert str(refused.value) == (
        "the checkpoint is damaged (hyper-prototypes is not finite); delete the newest file in the run's folder "
        "checkpoint to go on from the one before"
    )
