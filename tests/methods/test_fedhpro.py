"""FedHPro's options that change what travels: frozen hyper-prototypes, and a calibration that waits for imbalance."""

import json

import pytest
import torch
from safetensors.torch import load_file

from client_app.app import app as client_app
from fedhpro_flwr.config import ConfigError, RunConfig
from fedhpro_flwr.engine import RESIDENT
from fedhpro_flwr.launch.in_process import run_in_process
from fedhpro_flwr.losses import Anchors, hpal, hpcl
from fedhpro_flwr.methods import build_method
from fedhpro_flwr.methods.arrival import Batch
from fedhpro_flwr.methods.hpcl_hpal import hpcl_and_hpal
from server_app.app import app as server_app

SMALL = {
    "rounds": 3,
    "data.train-limit": 400,
    "partition.num-partitions": 3,
    "model.name": "mlp",
    "model.width": 8,
    "local.epochs": 1,
    "local.lr": 0.01,
    "calibration.head": "separate",
    "calibration.matching-steps": 2,
    "calibration.epochs": 2,
    "calibration.from-imbalance": 5.0,
}
HEAD_GRADIENTS = {"head-weight-gradients", "head-bias-gradients"}


def run(folder, **settings):
    """The rounds of a run and what it saved of the method."""
    RESIDENT.entries.clear()
    config = RunConfig.parse(SMALL | {"run-folder": str(folder)} | settings)
    run_in_process(server_app, client_app, config.partition.num_partitions, config.flat())
    rounds = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert all(line["set_aside"] == [] for line in rounds)
    return rounds, load_file(folder / "hyper-prototypes.safetensors")


@pytest.mark.parametrize("head", ["separate", "replace"])
def test_a_long_tail_is_calibrated_from_the_second_round_on(tmp_path, head):
    rounds, saved = run(tmp_path, **{"partition.imbalance": 20.0, "calibration.head": head})
    up = [line["bytes_up"].keys() for line in rounds]
    assert not HEAD_GRADIENTS & up[0] and up[1] >= HEAD_GRADIENTS and up[2] >= HEAD_GRADIENTS
    assert ["calibration" in line["server_seconds"] for line in rounds] == [False, True, True]
    down = [line["bytes_down"].get("signal-head-weight", 0) > 0 for line in rounds]
    assert down == [False, False, head == "separate"]
    assert ("signal-head-weight" in saved) == (head == "separate")


def test_balanced_classes_are_never_calibrated_and_train_as_without(tmp_path):
    rounds, _ = run(tmp_path / "waiting")
    off, _ = run(tmp_path / "off", **{"calibration.head": "off", "calibration.from-imbalance": 0.0})
    assert all(not HEAD_GRADIENTS & line["bytes_up"].keys() for line in rounds)
    assert [line["tested"] for line in rounds] == [line["tested"] for line in off]
    model = "model.safetensors"
    one, two = load_file(tmp_path / "waiting" / model), load_file(tmp_path / "off" / model)
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_the_counts_of_clients_that_are_not_asked_in_a_round_are_remembered(tmp_path):
    settings = {"partition.imbalance": 20.0, "clients.per-round": 1, "partition.scheme": "shards", "rounds": 4}
    settings |= {"partition.classes-per-client": 4}
    rounds, _ = run(tmp_path, **settings)
    asked = [line["bytes_up"].keys() >= HEAD_GRADIENTS for line in rounds]
    assert asked == sorted(asked)  # once known, imbalance is not forgotten


def test_frozen_hyper_prototypes_need_nothing_of_a_clients_classes(tmp_path):
    settings = {"calibration.head": "off", "calibration.from-imbalance": 0.0, "hyper-prototypes.matching-steps": 0}
    rounds, saved = run(tmp_path, **settings)
    assert all(line["bytes_up"].keys() - {"confusion"} == {"model"} for line in rounds)
    assert all(line["method"] == {} and "matching" not in line["server_seconds"] for line in rounds)
    traced = load_file(tmp_path / "prototypes.safetensors")["prototypes"]
    assert torch.equal(traced[0], traced[-1])
    torch.testing.assert_close(saved["hyper-prototypes"].mean(dim=1), traced[0])


def test_where_one_of_the_two_losses_is_off_the_other_is_all_that_is_added(make):
    draw = torch.Generator().manual_seed(0)
    z, labels = torch.randn(6, make.width, generator=draw), torch.tensor([0, 1, 3, 0, 1, 3])
    anchors = Anchors.of(torch.randn(make.classes, 2, make.width, generator=draw))

    def added(**settings):
        loss = hpcl_and_hpal(make.config("fedhpro", **settings), anchors, 0.1)
        return None if loss is None else float(loss(Batch(z, labels, z)))

    alignment = float(hpal(z, labels, anchors))
    contrast = float(hpcl(z, labels, anchors, temperature=0.05, margin=0.1))
    assert added(losses__hpcl="off", losses__hpal_weight=0.5) == pytest.approx(0.5 * alignment)
    assert added(losses__hpal="off", losses__hpcl_weight=0.25) == pytest.approx(0.25 * contrast)
    assert added() == pytest.approx(contrast + alignment)
    assert added(losses__hpcl="off", losses__hpal="off") is None


def test_hyper_prototypes_are_matched_under_the_head_that_the_settings_name(make):
    """The clients' gradients of round 1 are those without a calibration: so is a step under the head they used."""
    calibrated = {"calibration__head": "replace", "calibration__matching_steps": 2, "calibration__epochs": 2}

    def after_a_round(**settings):
        config = make.config("fedhpro", rounds=1, partition__num_partitions=2, **settings)
        return make.run(config, [make.data(1), make.data(2)]).state.hyper_prototypes.vectors

    plain = after_a_round()
    assert torch.equal(after_a_round(hyper_prototypes__matching_head="client", **calibrated), plain)
    assert not torch.equal(after_a_round(hyper_prototypes__matching_head="calibrated", **calibrated), plain)


def test_frozen_hyper_prototypes_can_be_calibrated(tmp_path):
    rounds, _ = run(tmp_path, **{"partition.imbalance": 20.0, "hyper-prototypes.matching-steps": 0})
    assert "class-gradients" not in rounds[2]["bytes_up"] and rounds[2]["bytes_up"].keys() >= HEAD_GRADIENTS


@pytest.mark.parametrize(
    ("counts", "named"),
    [
        ("", "hyper-prototypes.init = 'orthogonal': "),
        ("0=2", "hyper-prototypes.init = 'orthogonal', hyper-prototypes.counts = '0=2': "),
    ],
)
def test_a_start_that_does_not_fit_names_the_keys_that_are_set(counts, named):
    method = build_method(
        RunConfig.parse({"hyper-prototypes.init": "orthogonal", "hyper-prototypes.counts": counts, "model.width": 8})
    )
    model = {"head.weight": torch.zeros(10, 8), "head.bias": torch.zeros(10)}
    with pytest.raises(ConfigError) as refused:
        method.start(model)
    needs = "init 'orthogonal' needs no more classes than the features are wide, got 10 classes and width 8"
    assert str(refused.value) == named + needs
