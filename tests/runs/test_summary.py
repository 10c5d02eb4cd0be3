"""What a run may be compared with."""

import json
from types import SimpleNamespace

import pytest
import tomli_w

from fedhpro_flwr.config import ConfigError, RunConfig
from fedhpro_flwr.runs.summary import judged_by, judging_data, read_alone, told
from fedhpro_flwr.settings.flat_keys import nest


def test_training_alone_on_another_data_file_is_refused_wherever_the_files_lie(tmp_path):
    own = RunConfig.parse(method__name="local", data__name="npz", data__path="/there/1.npz")
    clients = [{"partition-id": 0, "test-correct": 3, "test-examples": 4}]
    (tmp_path / "config.toml").write_text(tomli_w.dumps(nest(own.flat())))
    (tmp_path / "summary.json").write_text(json.dumps({"clients": clients}))
    changes = {"data.name": "npz", "evaluation.alone": str(tmp_path)}
    assert read_alone(RunConfig.parse({**changes, "data.path": "/here/1.npz"})) == clients
    with pytest.raises(ConfigError, match=r"has data.path = '1.npz', this run '2.npz'"):
        read_alone(RunConfig.parse({**changes, "data.path": "/there/2.npz"}))


@pytest.mark.parametrize("last", [9, 10])
def test_a_client_that_misses_the_last_test_takes_no_round_with_it(last):
    def line(number, clients):
        return {"server_round": number, "tested": None, "received": {"clients": clients, "accuracy": number / 10}}

    rounds = [line(1, 4), line(2, 10), line(3, 9), line(4, 10)]
    final = SimpleNamespace(clients=last, accuracy=0.9)
    _, judged = judged_by(rounds, final)
    assert judged == [(1, 0.2), *([(2, 0.3)] if last == 9 else []), (3, 0.4), (4, 0.9)]


def test_an_accuracy_on_validation_data_is_said_to_be_one():
    assert [judging_data(RunConfig.parse({"data.validation-share": share})) for share in (0.0, 0.2)] == [
        "test data", "validation data",
    ]  # fmt: skip
    tested = {"accuracy": 0.5, "mean_over_domains": None}
    rounds = [{"server_round": 1, "tested": tested, "received": None}]
    assert judged_by(rounds, None, "validation data") == ("validation data", [(1, 0.5)])
    means = [{**rounds[0], "tested": tested | {"mean_over_domains": 0.25}}]
    assert judged_by(means, None, "validation data") == ("mean over domains", [(1, 0.25)])
    assert told("mean over domains", "validation data") == "mean over domains, validation data"
    assert told("mean over domains", "test data") == "mean over domains"
    assert told("validation data", "validation data") == "validation data"
