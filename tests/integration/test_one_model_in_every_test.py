"""Clients test the model that the server tests: where they share out its test data, as many are right."""

import json

import pytest
from small_run import SMALL

from client_app.app import app as client_app
from fedhpro_flwr.config import RunConfig
from fedhpro_flwr.launch.in_process import run_in_process
from fedhpro_flwr.methods import METHODS
from server_app.app import app as server_app

FEW = SMALL | {
    "rounds": 2,
    "data.train-limit": 150,
    "partition.imbalance": 10.0,
    "local.lr": 0.01,
    "fedtgp.server-epochs": 2,
    "calibration.matching-steps": 2,
    "evaluation.nearest-prototype": True,
}
SEPARATE = {"method.name": "fedhpro", "calibration.head": "separate"}
OURS = [name for name, found in METHODS.items() if found.__module__.startswith("fedhpro_flwr.methods.")]
CASES = {name: {"method.name": name} for name in OURS if name != "local"} | {
    "separate": SEPARATE,
    "separate, corrected": SEPARATE | {"losses.correction": "control-variates", "local.momentum": 0.0},
    "replaced": {"method.name": "fedhpro", "calibration.head": "replace"},
}


@pytest.mark.parametrize("case", CASES)
def test_as_many_are_right(case, tmp_path):
    config = RunConfig.parse(FEW | {"run-folder": str(tmp_path)} | CASES[case])
    run_in_process(server_app, client_app, config.partition.num_partitions, config.flat())
    said = json.loads((tmp_path / "summary.json").read_text())
    tested, clients = said["last-round"], [client for client in said["clients"] if client["test-examples"]]
    size = sum(client["test-examples"] for client in clients)
    assert size == 359  # all of the server's
    assert sum(client["test-correct"] for client in clients) == round(tested["accuracy"] * size)
