"""Settings that a run wrote down. Its code may have been older, and may not have known every key of today."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from fedhpro_flwr.config import RunConfig, Scalar
from fedhpro_flwr.settings.flat_keys import flatten
from fedhpro_flwr.settings.presets import PAPER
from fedhpro_flwr.settings.toml_file import read_toml


def completed(settings: Mapping[str, Scalar]) -> dict[str, Scalar]:
    """The settings that a run had, from those that it wrote down.

    A run writes down every key that it knows. An option that was added to the method later was off then, as it is in
    the preset `paper`. Today's version of the run's own preset may switch it on, so its values are not used.
    """
    return {**PAPER, **settings}


def of_recorded(settings: Mapping[str, Scalar]) -> RunConfig:
    """The settings that a run had, parsed from those that it wrote down.

    Raises:
        ConfigError: a wrong key or value.
    """
    return RunConfig.parse(completed(settings))


def read_recorded(path: Path) -> RunConfig:
    """The settings that a run had, from its config.toml.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no TOML, or has a wrong key or value.
    """
    return of_recorded(flatten(read_toml(path)))
