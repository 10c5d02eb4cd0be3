"""Settings as Flower delivers them, `{"local.lr": 1.0}`, and as TOML writes them, `{"local": {"lr": 1.0}}`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

Scalar = str | int | float | bool


class ConfigError(ValueError):
    """A wrong key or value; the message is one sentence for the person who wrote it."""


def nest(flat: Mapping[str, Scalar]) -> dict[str, Any]:
    """Flat keys to tables.

    Raises:
        ConfigError: a key is both a value and a section.
    """
    nested: dict[str, Any] = {}
    for key, value in flat.items():
        section, _, leaf = key.rpartition(".")
        if isinstance(nested.get(key), dict) or (section and not isinstance(nested.setdefault(section, {}), dict)):
            raise ConfigError(f"{key} = {value!r}: a key is a value or a section with keys of its own, and not both")
        (nested[section] if section else nested)[leaf] = value
    return nested


def flatten(nested: Mapping[str, Any], prefix: str = "") -> dict[str, Scalar]:
    """Tables to flat keys. A table in a section of a section stays one: its key is unknown, as are all below it."""
    flat: dict[str, Scalar] = {}
    for key, value in nested.items():
        is_section = isinstance(value, Mapping) and prefix.count(".") < 2
        flat |= flatten(value, f"{prefix}{key}.") if is_section else {f"{prefix}{key}": value}
    return flat


def tree(flat: Mapping[str, Scalar]) -> Iterator[str]:
    """The settings as lines of a tree, a branch a section."""
    section = ""
    for key, value in flat.items():
        head, _, leaf = key.rpartition(".")
        if head != section:
            yield f"├── {head}"
            section = head
        yield f"{'│   ├──' if head else '├──'} {leaf} = {value}"
