"""TOML files, as people and runs write them."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from fedhpro_flwr.settings.flat_keys import ConfigError


def read_toml(path: Path) -> dict[str, Any]:
    """The content of a file.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no TOML; the message does not name it.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))  # some editors begin a file with a byte order mark
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def read_given_toml(path: Path) -> dict[str, Any]:
    """The content of a file that somebody named.

    Raises:
        OSError: it cannot be read.
        ConfigError: it is no TOML.
    """
    try:
        return read_toml(path)
    except ValueError as error:
        raise ConfigError(f"{path} is not TOML: {error}") from None
