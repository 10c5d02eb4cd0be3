"""pyproject.toml, from which Flower knows the keys, and the files in conf/ say what the code says."""

import tomllib
from pathlib import Path

import pytest

from fedhpro_flwr.config import RunConfig, known_keys
from fedhpro_flwr.settings.flat_keys import flatten

ROOT = Path(__file__).resolve().parents[1]


def flower_defaults():
    content = tomllib.loads((ROOT / "pyproject.toml").read_text())
    return flatten(content["tool"]["flwr"]["app"]["config"])


def test_pyproject_lists_exactly_the_known_keys_with_their_defaults():
    listed = flower_defaults()
    assert tuple(listed) == known_keys()
    assert RunConfig.parse(listed) == RunConfig.parse({})


@pytest.mark.parametrize("path", sorted((ROOT / "conf").glob("*.toml")), ids=lambda path: path.stem)
def test_every_conf_file_parses_and_flower_knows_its_keys(path):
    settings = flatten(tomllib.loads(path.read_text()))
    assert set(settings) <= set(known_keys())
    config = RunConfig.parse(flower_defaults() | settings)
    assert config.experiment == path.stem
    assert all(config.flat()[key] == value for key, value in settings.items())
