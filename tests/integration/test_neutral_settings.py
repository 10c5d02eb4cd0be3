"""Settings at the value at which they ask for nothing: whole runs with them are, bit for bit, those without them, or
those of the method that is left. And each does something at another value, or the comparison would show nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path

import pytest
from safetensors.numpy import load_file
from small_run import SMALL as ONE_ROUND

from client_app.app import app as client_app
from fedhpro_flwr.config import RunConfig, Scalar
from fedhpro_flwr.launch.in_process import run_in_process
from server_app.app import app as server_app

Settings = Mapping[str, Scalar]
Play = Callable[[Settings], bytes]

SMALL: Settings = ONE_ROUND | {
    "rounds": 2,
    "fedtgp.server-epochs": 2,
    "creff.epochs": 2,
    "creff.matching-steps": 2,
}
FEDAVG: Settings = {"method.name": "fedavg"}
FEDHPRO: Settings = {"method.name": "fedhpro"}
NO_LOSSES: Settings = FEDHPRO | {"losses.hpcl": "off", "losses.hpal": "off"}
ONE_CLIENT: Settings = {"partition.num-partitions": 1, "partition.scheme": "iid"}

SAME: dict[str, tuple[Settings, Settings, Settings]] = {
    # both runs have: the first, and then either the second or the third
    "FedProx without its term": ({}, {"method.name": "fedprox", "fedprox.mu": 0}, FEDAVG),
    "MOON without its loss": ({}, {"method.name": "moon", "moon.mu": 0}, FEDAVG),
    "FedProto without its loss": ({}, {"method.name": "fedproto", "fedproto.weight": 0}, FEDAVG),
    "FedTGP without its loss": ({}, {"method.name": "fedtgp", "fedtgp.weight": 0}, FEDAVG),
    "FedSA without its losses": (
        {"method.name": "fedsa", "fedsa.contrast-weight": 0, "fedsa.calibration-weight": 0},
        {"fedsa.weight": 0},
        FEDAVG,
    ),
    "FedHPro without losses": ({}, NO_LOSSES, FEDAVG),
    "losses of weight 0": ({}, FEDHPRO | {"losses.hpcl-weight": 0, "losses.hpal-weight": 0}, FEDAVG),
    "HPCL of weight 0": (FEDHPRO, {"losses.hpcl-weight": 0}, {"losses.hpcl": "off"}),
    "HPAL of weight 0": (FEDHPRO, {"losses.hpal-weight": 0}, {"losses.hpal": "off"}),
    "control variates alone": (
        {},
        NO_LOSSES | {"losses.correction": "control-variates"},
        {"method.name": "scaffold", "scaffold.weighting": "samples"},
    ),
    "all clients drawn": (FEDHPRO, {"clients.per-round": 3}, {}),
    "a clip that nobody reaches": (FEDHPRO, {"aggregation.clip-norm": 1e9}, {}),
    "a bound that nobody reaches": (FEDHPRO, {"aggregation.max-update-norm": 1e9}, {}),
    "one client's median": (FEDHPRO | ONE_CLIENT, {"aggregation.model": "median"}, {}),
    "one group": (FEDHPRO, {"model.groups": "mlp=3"}, {}),
    "the same K for single classes": (
        FEDHPRO | {"hyper-prototypes.prototypes-per-class": 4},
        {"hyper-prototypes.counts": "0=4, 3=4"},
        {},
    ),
    "frozen hyper-prototypes read no step size": (
        FEDHPRO | {"hyper-prototypes.matching-steps": 0},
        {"hyper-prototypes.matching-lr": 9.0, "hyper-prototypes.matching-distance": "mse"},
        {},
    ),
    "tests only look": (
        FEDHPRO,
        {"evaluation.every": 2, "evaluation.clients-every": 0, "evaluation.nearest-prototype": True},
        {},
    ),
    "checkpoints only copy": (FEDHPRO, {"checkpoint.every": 0}, {}),
}
OTHER: dict[str, tuple[Settings, Settings]] = {
    "FedProx": ({"method.name": "fedprox"}, FEDAVG),
    "MOON": ({"method.name": "moon"}, FEDAVG),
    "FedProto": ({"method.name": "fedproto"}, FEDAVG),
    "FedTGP": ({"method.name": "fedtgp", "fedtgp.weight": 0.1}, FEDAVG),
    "FedSA": ({"method.name": "fedsa"}, FEDAVG),
    "FedHPro": (FEDHPRO, FEDAVG),
    "HPCL": (FEDHPRO | {"losses.hpcl": "off"}, FEDHPRO),
    "HPAL": (FEDHPRO | {"losses.hpal": "off"}, FEDHPRO),
    "control variates": (NO_LOSSES | {"losses.correction": "control-variates"}, NO_LOSSES),
    "two clients of three": (FEDHPRO | {"clients.per-round": 2}, FEDHPRO),
    "a clip that all reach": (FEDHPRO | {"aggregation.clip-norm": 1e-3}, FEDHPRO),
    "three clients' median": (FEDHPRO | {"aggregation.model": "median"}, FEDHPRO),
    "another K for a class": (FEDHPRO | {"hyper-prototypes.counts": "0=4"}, FEDHPRO),
    "steps": (FEDHPRO | {"hyper-prototypes.matching-steps": 0}, FEDHPRO),
    "step size": (FEDHPRO | {"hyper-prototypes.matching-lr": 9.0}, FEDHPRO),
}


@pytest.fixture(scope="module")
def play(tmp_path_factory: pytest.TempPathFactory) -> Play:
    """The bits of the model that a run with these settings leaves; each run is played once."""

    @cache
    def model(settings: tuple[tuple[str, Scalar], ...]) -> bytes:
        folder: Path = tmp_path_factory.mktemp("run") / "run"
        config = RunConfig.parse(SMALL | dict(settings) | {"run-folder": str(folder)})
        clients = config.partition.num_partitions
        run_in_process(server_app, client_app, clients, config.flat() | {"clients.num-nodes": clients})
        return b"".join(tensor.tobytes() for _, tensor in sorted(load_file(folder / "model.safetensors").items()))

    return lambda settings: model(tuple(sorted(settings.items())))


@pytest.mark.parametrize("name", SAME)
def test_a_setting_that_asks_for_nothing_changes_nothing(name: str, play: Play) -> None:
    both, with_it, without_it = SAME[name]
    assert play(both | with_it) == play(both | without_it)


@pytest.mark.parametrize("name", OTHER)
def test_it_changes_the_model_when_it_asks_for_something(name: str, play: Play) -> None:
    with_it, without_it = OTHER[name]
    assert play(with_it) != play(without_it)
