"""What a run may be compared with."""

import json
from types import SimpleNamespace

import pytest
import tomli_w

from fedhpro_flwr.config import ConfigError, RunConfig
from fedhpro_flwr.runs.summary import judged_by, read_alone
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
