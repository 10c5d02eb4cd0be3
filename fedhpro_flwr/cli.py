"""`fedhpro`: the command line."""

from __future__ import annotations

import argparse
import os
import sys
import time
import tomllib
import traceback
from collections.abc import Sequence
from logging import WARNING, getLogger
from pathlib import Path
from typing import Any

from rich.console import Console

from fedhpro_flwr.config import ConfigError, RunConfig, Scalar
from fedhpro_flwr.engine import check_names
from fedhpro_flwr.flat_keys import flatten
from fedhpro_flwr.launcher import LaunchError, simulate
from fedhpro_flwr.progress import RunProgress, closing
from fedhpro_flwr.run_folder import FAILURE_FILE, METRICS_FILE, PARTITION_FILE, new_folder, refuse_finished

OK, FAILED, NOT_STARTED = 0, 1, 2
PATHS = (
    "data.root",
    "data.path",
    "data.weights",
    "data.tokenizer",
    "model.path",
    "clients.state-path",
    "evaluation.alone",
)
HASHING = "hashing"  # data.tokenizer names a folder or this


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit status: 0 the run ended well, 1 it failed, 2 it was not started."""
    options = _parser().parse_args(arguments)
    console = Console(highlight=False)
    try:
        return int(options.command(options, console))
    except (ConfigError, OSError) as error:
        console.print(f"fedhpro: {error}", style="red", markup=False, soft_wrap=True)
        return NOT_STARTED
    except KeyboardInterrupt:
        console.print("fedhpro: stopped", style="red")
        return 130


def run(options: argparse.Namespace, console: Console) -> int:
    """`fedhpro run`: one run, shown while it goes."""
    began = time.monotonic()
    config = prepare(options.conf, options.set)
    results = Path(config.results_dir or "results").resolve()
    folder = Path(config.run_folder).resolve() if config.run_folder else new_folder(results, config.experiment)
    nodes = config.partition.num_partitions
    config = RunConfig.parse(config.flat() | {"run-folder": str(folder), "clients.num-nodes": nodes})
    refuse_finished(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for name in (FAILURE_FILE, METRICS_FILE, PARTITION_FILE):  # of an earlier attempt: not to be shown as this one's
        (folder / name).unlink(missing_ok=True)
    console.print(
        f"{config.experiment}: {config.method.name} (preset {config.preset}), {config.data.name}, {nodes} clients, "
        f"{config.partition.scheme} split, {config.rounds} rounds, engine {options.engine}; results in {folder}",
        markup=False,
        soft_wrap=True,
    )
    failure = ""
    with RunProgress(folder, config, console):
        try:
            if options.engine == "ray":
                log_file = folder / "flower.log"
                simulate(config.flat(), num_nodes=nodes, log_file=log_file, gpus=options.gpus_per_client)
            else:
                _in_process(config, nodes)
        except Exception as error:
            if not isinstance(error, (LaunchError, RuntimeError, ValueError, OSError)):
                traceback.print_exc()  # no mistake of the user's: show where
            said = folder / FAILURE_FILE
            failure = said.read_text() if said.exists() else str(error) or repr(error)
    if failure:
        console.print(f"fedhpro: the run failed: {failure}", style="red", markup=False, soft_wrap=True)
        return FAILED
    console.print(closing(folder, time.monotonic() - began))
    return OK


def _in_process(config: RunConfig, nodes: int) -> None:
    # Imported here: torch takes seconds, and the other engine does not need it in this process.
    from client_app.app import app as client_app
    from fedhpro_flwr.in_process import run_in_process
    from server_app.app import app as server_app

    getLogger("flwr").setLevel(WARNING)
    run_in_process(server_app, client_app, nodes, config.flat())


def prepare(conf: str | None, changes: Sequence[str]) -> RunConfig:
    """The settings of a run as its apps need them: parsed, and with absolute paths, as they run in another directory.

    Raises:
        ConfigError: a wrong key or value.
    """
    settings = read_settings(conf, changes)
    if not settings.get("data.root"):
        settings["data.root"] = os.environ.get("FEDHPRO_DATA_DIR", "")
    for key in PATHS:
        if settings.get(key) and settings[key] != HASHING:
            settings[key] = str(Path(str(settings[key])).expanduser().resolve())
    config = RunConfig.parse(settings)
    check_names(config)
    return config


def read_settings(conf: str | None, changes: Sequence[str]) -> dict[str, Scalar]:
    """The quick start's settings, then those of a TOML file, then `key=value` changes.

    Raises:
        ConfigError: no such file, no TOML, or a change that is not key=value.
    """
    settings = _defaults()
    if conf:
        settings |= flatten(_toml(_find(conf)))
    for change in changes:
        key, equals, value = change.partition("=")
        if not equals:
            raise ConfigError(f"--set {change}: write it as key=value")
        settings[key.strip()] = _value(value.strip())
    return settings


def _value(text: str) -> Scalar:
    """TOML where it reads as TOML (3, 0.1, true, "a"), the bare text otherwise."""
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text
    return value if isinstance(value, str | int | float | bool) else text


def _defaults() -> dict[str, Scalar]:
    package = Path(__file__).resolve().parent
    beside = package.parent / "pyproject.toml"
    content = _toml(beside if beside.exists() else package / "app" / "pyproject.toml")
    return flatten(content["tool"]["flwr"]["app"]["config"])


def _find(conf: str) -> Path:
    """A path, or the name of an experiment that comes with the project."""
    package = Path(__file__).resolve().parent
    folders = (package.parent / "conf", package / "conf")
    candidates = [Path(conf), *(folder / f"{conf.removesuffix('.toml')}.toml" for folder in folders)]
    for path in candidates:
        if path.is_file():
            return path
    known = sorted({path.stem for folder in folders for path in folder.glob("*.toml")})
    raise ConfigError(f"there is no file {conf}, and no experiment of that name; there are {', '.join(known)}")


def _toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not TOML: {error}") from None


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="fedhpro", description="Federated learning with hyper-prototypes, on Flower.")
    commands = parser.add_subparsers(required=True, metavar="command")
    command = commands.add_parser("run", help="run an experiment and show it while it goes")
    command.add_argument(
        "conf", nargs="?", help="a TOML file, or the name of one in conf/ (default: the quick start on digits)"
    )
    command.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="change a setting; may be repeated"
    )
    command.add_argument(
        "--engine", choices=("ray", "in-process"), default="ray", help="ray: `flwr run` in Flower's simulation engine"
    )
    command.add_argument(
        "--gpus-per-client", type=float, default=0.0, metavar="SHARE", help="share of a GPU for a client process of Ray"
    )
    command.set_defaults(command=run)
    return parser


if __name__ == "__main__":
    sys.exit(main())
