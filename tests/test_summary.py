"""What a run may be compared with."""

import json

import pytest
import tomli_w

from fedhpro_flwr.config import ConfigError, RunConfig
from fedhpro_flwr.flat_keys import nest
from fedhpro_flwr.summary import read_alone


def test_training_alone_on_another_data_file_is_refused_wherever_the_files_lie(tmp_path):
    own = RunConfig.parse(method__name="local", data__name="npz", data__path="/there/1.npz")
    clients = [{"partition-id": 0, "test-correct": 3, "test-examples": 4}]
    (tmp_path / "config.toml").write_text(tomli_w.dumps(nest(own.flat())))
    (tmp_path / "summary.json").write_text(json.dumps({"clients": clients}))
    changes = {"data.name": "npz", "evaluation.alone": str(tmp_path)}
    assert read_alone(RunConfig.parse({**changes, "data.path": "/here/1.npz"})) == clients
    with pytest.raises(ConfigError, match=r"has data.path = '1.npz', this run '2.npz'"):
        read_alone(RunConfig.parse({**changes, "data.path": "/there/2.npz"}))
