"""The settings of a run as a command line names them: a TOML file or an experiment's name, and `key=value` changes."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterable, Sequence
from pathlib import Path

from fedhpro_flwr.config import ConfigError, RunConfig, Scalar, is_text, known_keys
from fedhpro_flwr.data import DATA_SETS
from fedhpro_flwr.data.own_format import own_reader
from fedhpro_flwr.data.registry import refuse_unused
from fedhpro_flwr.methods import METHODS
from fedhpro_flwr.models import MODELS
from fedhpro_flwr.runs.run_folder import CONFIG_FILE, METRICS_FILE
from fedhpro_flwr.settings.flat_keys import flatten
from fedhpro_flwr.settings.places import made_absolute
from fedhpro_flwr.settings.recorded import completed
from fedhpro_flwr.settings.toml_file import read_given_toml
from fedhpro_flwr.tracking import chosen_trackers

PACKAGE = Path(__file__).resolve().parents[1]  # conf and pyproject.toml lie in an installed one, or beside a checkout's


def prepare(conf: str | None, changes: Sequence[str]) -> RunConfig:
    """The settings of a run as its apps need them: parsed, and with absolute paths, as they run in another directory.

    Raises:
        ConfigError: a wrong key or value.
    """
    settings = read_settings(conf, changes)
    if not settings.get("data.root"):
        settings["data.root"] = os.environ.get("FEDHPRO_DATA_DIR", "")
    settings = made_absolute(settings)
    for key, value in settings.items():
        if isinstance(value, str):
            refuse_undecodable(key, value)
    config = RunConfig.parse(settings)
    check_names(config)
    return config


def check_names(config: RunConfig) -> None:
    """Find every name that the settings choose by in its registry, and let what it names check the other settings.

    Raises:
        ConfigError: a data set, model, method or tracker of that name does not exist, and the message lists those that
            do; the data set ignores a setting, or the method cannot work with one; or the library of a tracker is not
            installed.
    """
    DATA_SETS.find(config.data.name)
    if config.partition.at_nodes:
        own_reader(config.data.name)
    refuse_unused(config.data)
    for architecture in (config.model.name, *config.model.group_sizes):
        MODELS.find(architecture)
    METHODS.find(config.method.name).refuse(config)
    chosen_trackers(config.trackers)


def refuse_undecodable(key: str, value: str) -> None:
    """Refuse a value that is no UTF-8: names of files may be any bytes, but settings are kept and sent as UTF-8.

    Raises:
        ConfigError: the value has bytes that are no UTF-8.
    """
    try:
        value.encode()
    except UnicodeEncodeError:
        shown = os.fsencode(value).decode(errors="backslashreplace")
        raise ConfigError(f"{key} = '{shown}': bytes that are no UTF-8; rename the file or folder") from None


def read_settings(conf: str | None, changes: Sequence[str]) -> dict[str, Scalar]:
    """The quick start's settings, then those of a TOML file, then `key=value` changes.

    Raises:
        ConfigError: no such file, no TOML, or a change that is not key=value.
    """
    settings = _defaults()
    if conf:
        path = _find(conf)
        given = flatten(read_given_toml(path))
        of_a_run = path.name == CONFIG_FILE and (path.parent / METRICS_FILE).exists()
        settings |= completed(given) if of_a_run else given
    for change in changes:
        key, equals, value = change.partition("=")
        if not equals:
            raise ConfigError(f"--set {change}: write it as key=value")
        settings[key.strip()] = _value(key.strip(), value.strip())
    return settings


def keys_of(changes: Iterable[str]) -> list[str]:
    """The keys of `key=value` changes."""
    return [change.partition("=")[0].strip() for change in changes]


def _value(key: str, text: str) -> Scalar:
    """The text read as TOML (3, 0.1, true, "a"), or the bare text if it is no TOML or the key's value is a text."""
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except (tomllib.TOMLDecodeError, RecursionError):
        return text
    if is_text(key) and not isinstance(value, str):
        return text  # an experiment may be called 2024, a folder 007
    return value if isinstance(value, str | int | float | bool) else text


def _defaults() -> dict[str, Scalar]:
    beside = PACKAGE.parent / "pyproject.toml"
    file = beside if beside.exists() else PACKAGE / "app" / "pyproject.toml"
    defaults = flatten(read_given_toml(file)["tool"]["flwr"]["app"]["config"])
    if lacking := [key for key in known_keys() if key not in defaults]:  # somebody added a setting to the code alone
        section, _, leaf = f"tool.flwr.app.config.{lacking[0]}".rpartition(".")
        raise ConfigError(f"{lacking[0]} has no default in {file}: add {leaf} under [{section}], or Flower refuses it")
    return defaults


def _find(conf: str) -> Path:
    """A path, or the name of an experiment that comes with the project."""
    folders = (PACKAGE.parent / "conf", PACKAGE / "conf")
    candidates = [Path(conf), *(folder / f"{conf.removesuffix('.toml')}.toml" for folder in folders)]
    for path in candidates:
        if path.is_file():
            return path
    known = sorted({path.stem for folder in folders for path in folder.glob("*.toml")})
    raise ConfigError(f"there is no file {conf}, and no experiment of that name; there are {', '.join(known)}")
