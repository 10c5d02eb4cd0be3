"""A whole run with a tracker: the numbers of metrics.jsonl, the bits of a run without one, and no run lost to it."""

import json

import pytest
from small_run import SMALL as ONE_ROUND

from client_app.app import app as client_app
from fedhpro_flwr.config import ConfigError, RunConfig
from fedhpro_flwr.launch.in_process import run_in_process
from fedhpro_flwr.runs.run_folder import read_rounds
from fedhpro_flwr.tracking.tensorboard import TensorBoard
from server_app.app import app as server_app

pytest.importorskip("tensorboard", reason="the package tensorboard is not installed")

SMALL = ONE_ROUND | {"rounds": 3}


def train(folder, **changes):
    """Run the apps and return the folder."""
    config = RunConfig.parse(SMALL | {"run-folder": str(folder)} | changes)
    run_in_process(server_app, client_app, 3, config.flat())
    return folder


def scalars(folder):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(folder / "tensorboard"))
    found.Reload()
    return {tag: [(item.step, item.value) for item in found.Scalars(tag)] for tag in found.Tags()["scalars"]}


def test_the_numbers_are_those_of_the_folder_and_the_model_is_the_same_bit_for_bit(tmp_path):
    tracked, plain = train(tmp_path / "tracked", trackers="tensorboard"), train(tmp_path / "plain")
    assert (tracked / "model.safetensors").read_bytes() == (plain / "model.safetensors").read_bytes()
    assert not (plain / "tensorboard").exists()

    found, rounds = scalars(tracked), read_rounds(tracked)
    for name, value_of in {
        "server/accuracy": lambda line: line["tested"]["accuracy"],
        "train/loss": lambda line: line["train_loss"],
        "bytes/up/class-gradients": lambda line: line["bytes_up"]["class-gradients"],
        "seconds/client/local-training": lambda line: line["client_seconds"]["local-training"],
    }.items():
        assert found[name] == [(line["server_round"], pytest.approx(value_of(line))) for line in rounds]
    clients = [(line["server_round"], line["received"]["worst"]) for line in rounds if line["received"]]
    assert [number for number, _ in clients] == [2, 3]
    assert found["clients/worst"] == [(number, pytest.approx(worst)) for number, worst in clients]
    accuracy = json.loads((tracked / "summary.json").read_text())["accuracy"]
    assert found["summary/mean-of-last-ten"] == [(0, pytest.approx(accuracy["mean-of-last-ten"]))]


def test_a_tracker_that_fails_in_round_2_does_not_stop_the_run(tmp_path, monkeypatch):
    log = TensorBoard.log

    def full(self, server_round, numbers):
        if server_round == 2:
            raise OSError(28, "No space left on device")
        log(self, server_round, numbers)

    monkeypatch.setattr(TensorBoard, "log", full)
    folder = train(tmp_path / "run", trackers="tensorboard")
    assert (folder / "summary.json").exists()
    assert [line["server_round"] for line in read_rounds(folder)] == [1, 2, 3]
    assert [step for step, _ in scalars(folder)["train/loss"]] == [1]


def test_an_unknown_tracker_ends_a_run_that_flower_started_before_its_first_message(tmp_path):
    with pytest.raises(ConfigError):
        train(tmp_path / "run", trackers="tensorboard, aim")
    said = (tmp_path / "run" / "failure.txt").read_text()
    assert said == "trackers = 'aim' is unknown, there are: mlflow, tensorboard, wandb"
    assert not (tmp_path / "run" / "partition.json").exists()
