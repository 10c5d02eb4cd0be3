"""`privacy.*` through the real apps: what each method sends, what it makes of it, and what is refused."""

import json
from logging import WARNING

import numpy as np
import pytest

from client_app.app import app as client_app
from client_app.visit import own_test
from fedhpro_flwr.client.privacy_account import epsilon_of, reply_mu
from fedhpro_flwr.config import ConfigError, RunConfig
from fedhpro_flwr.engine import RESIDENT
from fedhpro_flwr.launch.in_process import run_in_process
from fedhpro_flwr.methods import METHODS
from fedhpro_flwr.records import Broadcast, Task
from fedhpro_flwr.server.global_evaluation import UNTESTED
from server_app.app import app as server_app

SMALL = {
    "rounds": 2,
    "data.train-limit": 120,
    "partition.num-partitions": 3,
    "model.name": "mlp",
    "model.width": 8,
    "local.epochs": 1,
    "local.lr": 0.01,
    "fedtgp.server-epochs": 2,
    "hyper-prototypes.matching-steps": 2,
    "creff.matching-steps": 2,
    "creff.epochs": 2,
}
CLASS_SETTINGS = {"privacy.class-clip": 1.0, "privacy.class-noise": 1.0}
MODEL_SETTINGS = {"privacy.model-clip": 1.0, "privacy.model-noise": 0.5}
WITHHELD = CLASS_SETTINGS | MODEL_SETTINGS | {"privacy.withhold": True}
SEND_OF_CLASSES = ("averaged", "creff", "fedhpro", "fedproto", "fedsa", "fedtgp", "fpl")


def run(folder, **settings):
    """The rounds of a run and its summary."""
    RESIDENT.entries.clear()
    config = RunConfig.parse(SMALL | {"run-folder": str(folder)} | settings)
    run_in_process(server_app, client_app, config.partition.num_partitions, config.flat())
    rounds = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert all(line["set_aside"] == [] for line in rounds)
    return rounds, json.loads((folder / "summary.json").read_text())


@pytest.mark.parametrize("name", SEND_OF_CLASSES)
def test_a_method_goes_on_where_every_class_is_left_out(tmp_path, name):
    rounds, summary = run(tmp_path, **{"method.name": name, "privacy.min-samples": 10_000})
    header = rounds[-1]["bytes_up"]["class-ids"]  # of NumPy's format: three arrays without an entry
    assert header == rounds[-1]["bytes_up"]["class-counts"] == 3 * 128
    assert "privacy" not in summary and rounds[-1]["tested"]["accuracy"] > 0


def test_the_classes_that_are_left_out_are_those_of_few_samples(tmp_path):
    rounds, _ = run(tmp_path, **{"privacy.min-samples": 5})
    counts = np.array(json.loads((tmp_path / "partition.json").read_text())["counts"])  # [N, C]
    held = int((counts >= 5).sum())
    assert 0 < held < int((counts > 0).sum())
    assert rounds[0]["bytes_up"]["class-ids"] == 3 * 128 + 8 * held


@pytest.mark.parametrize("name", ["creff", "fedavg", "fedhpro", "fpl"])
def test_epsilon_of_a_run_with_everything_withheld(tmp_path, name):
    rounds, summary = run(tmp_path, **{"method.name": name}, **WITHHELD)
    multipliers = [1.0, 0.5] if name in SEND_OF_CLASSES else [0.5]
    told = [epsilon_of(reply_mu(multipliers * number), 1e-5) for number in (1, 2)]
    assert [line["method"]["epsilon"] for line in rounds] == pytest.approx(told, abs=1e-6)
    assert summary["privacy"] == {"epsilon": pytest.approx(told[-1], abs=1e-6)}
    assert [client.keys() for client in rounds[0]["clients"]] == [{"partition-id", "num-examples", "epsilon"}] * 3
    assert summary["clients"] == [] and rounds[1]["received"] is None
    assert "confusion" not in rounds[1]["bytes_up"]


def test_runs_with_noise_of_the_seed_are_equal_and_others_are_not(tmp_path):
    def bits(folder, **settings):
        run(tmp_path / folder, **settings)
        return (tmp_path / folder / "hyper-prototypes.safetensors").read_bytes()

    assert bits("1", **WITHHELD, **{"privacy.noise": "seeded"}) == bits("2", **WITHHELD, **{"privacy.noise": "seeded"})
    assert bits("3", **WITHHELD) != bits("4", **WITHHELD)


def test_where_no_model_travels_only_the_class_means_cost(tmp_path):
    settings = CLASS_SETTINGS | {"method.name": "fedproto", "model.share": "nothing", "privacy.withhold": True}
    rounds, _ = run(tmp_path, **settings)
    assert rounds[0]["method"]["epsilon"] == pytest.approx(epsilon_of(reply_mu([1.0]), 1e-5), abs=1e-6)


def test_local_training_sends_nothing_that_needs_noise(tmp_path, caplog):
    """Whatever `model.share` says."""
    caplog.set_level(WARNING, logger="flwr")
    rounds, summary = run(tmp_path, **{"method.name": "local", "privacy.withhold": True})
    assert [line.message for line in caplog.records if "no accuracy" in line.message] == [UNTESTED]
    assert summary["privacy"] == {"epsilon": 0.0} and set(rounds[0]["bytes_up"]) <= {"model"}


def test_a_client_keeps_its_own_test_to_itself(make):
    config = make.config("fedhpro", **{key.replace(".", "__").replace("-", "_"): v for key, v in WITHHELD.items()})
    with pytest.raises(ValueError, match=r"^privacy\.withhold: results on the client's own test data stay with"):
        own_test(make.model(), make.data(), Broadcast({}, {}, config, Task(1, 0)))


@pytest.mark.parametrize("name", SEND_OF_CLASSES)
def test_what_is_sent_of_classes_must_have_noise_too(make, name):
    bare = {"privacy__model_clip": 1.0, "privacy__model_noise": 1.0, "privacy__withhold": True}
    with pytest.raises(ConfigError) as refused:
        METHODS.find(name).refuse(make.config(name, **bare))
    assert str(refused.value) == (
        f"privacy.withhold = true needs noise on all that is sent, and method.name = '{name}' sends of each class: "
        "set privacy.class-clip and privacy.class-noise"
    )
    METHODS.find(name).refuse(make.config(name, **bare, privacy__class_clip=1.0, privacy__class_noise=1.0))


def test_every_method_that_sends_of_classes_says_so():
    """Of one that does not, the client would keep its first reply back."""
    ours = {name: found for name, found in METHODS.items() if found.__module__.startswith("fedhpro_flwr.methods.")}
    defaults = RunConfig.parse()
    assert {name for name, found in ours.items() if found.sends_of_classes(defaults)} == set(SEND_OF_CLASSES)


FROZEN = {"hyper-prototypes.matching-steps": 0, "calibration.head": "off"}


def test_frozen_hyper_prototypes_whose_head_is_calibrated_send_head_gradients_that_need_noise():
    fedhpro = METHODS.find("fedhpro")
    assert not fedhpro.sends_of_classes(RunConfig.parse(FROZEN))
    assert fedhpro.sends_of_classes(RunConfig.parse(FROZEN | {"calibration.head": "separate"}))


def test_a_methods_own_class_means_need_noise_whatever_is_set_of_hyper_prototypes():
    assert METHODS.find("fedproto").sends_of_classes(RunConfig.parse(FROZEN))


@pytest.mark.parametrize(
    "settings", [{"method.name": "fedhpro"}, {"method.name": "fedproto", "method.prototypes": "hyper"}]
)
def test_frozen_hyper_prototypes_send_nothing_of_classes_that_needs_noise(tmp_path, settings):
    no_class_noise = WITHHELD | {"privacy.class-clip": 0.0, "privacy.class-noise": 0.0}
    rounds, summary = run(tmp_path, **settings, **FROZEN, **no_class_noise)
    assert summary["privacy"] == {"epsilon": pytest.approx(epsilon_of(reply_mu([0.5, 0.5]), 1e-5), abs=1e-6)}
    assert not {"class-gradients", "head-weight-gradients"} & set(rounds[0]["bytes_up"])


def test_control_variates_are_read_off_models_that_must_be_exact(make):
    with pytest.raises(
        ConfigError, match=r"^method\.name = 'scaffold' reads control variates off the models that clients send"
    ):
        METHODS.find("scaffold").refuse(make.config("scaffold", privacy__model_clip=1.0))
