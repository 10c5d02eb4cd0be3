"""`fedhpro run`: one run, shown while it goes on."""

from __future__ import annotations

import argparse
import time
import traceback
from logging import WARNING, getLogger

from flwr.common.logger import update_console_handler
from rich.console import Console

from fedhpro_flwr.commands import FAILED, OK, Subparsers
from fedhpro_flwr.commands.complaint import complain, say
from fedhpro_flwr.commands.on_superlink import add_arguments, refuse, run_on_superlink
from fedhpro_flwr.commands.unshown import until_it_fails
from fedhpro_flwr.config import ConfigError, RunConfig
from fedhpro_flwr.home_folder import expanded
from fedhpro_flwr.launch.gpu_share import refuse_gpu
from fedhpro_flwr.launch.simulation import simulate
from fedhpro_flwr.runs.closing import closing
from fedhpro_flwr.runs.folder_lock import lock
from fedhpro_flwr.runs.progress import RunProgress
from fedhpro_flwr.runs.resume import resumed
from fedhpro_flwr.runs.run_folder import (
    CONFIG_FILE,
    FAILURE_FILE,
    METRICS_FILE,
    PARTITION_FILE,
    begun_folder,
)
from fedhpro_flwr.settings.from_command_line import keys_of, prepare
from fedhpro_flwr.settings.unread import unread


def add_parser(commands: Subparsers) -> None:
    """Declare `fedhpro run`."""
    command = commands.add_parser("run", help="run an experiment and show it while it goes")
    command.add_argument(
        "conf", nargs="?", help="a TOML file, or the name of one in conf/ (default: the quick start on digits)"
    )
    command.add_argument(
        "--resume",
        metavar="FOLDER",
        help="go on with a run that was stopped, in its folder and with its settings; with --set rounds=N also to make "
        "a finished one longer",
    )
    add_settings(command)
    add_arguments(command)
    command.set_defaults(command=run)


def add_settings(command: argparse.ArgumentParser) -> None:
    """Declare what all commands that run something take: changes of settings, and the engine."""
    command.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="change a setting; may be repeated"
    )
    command.add_argument(
        "--engine",
        choices=("ray", "in-process"),
        default="ray",
        help="ray: Flower's simulation engine, clients in processes of their own; in-process: all in this process, the "
        "same bits (default: ray)",
    )
    command.add_argument(
        "--gpus-per-client", type=float, default=0.0, metavar="SHARE", help="share of a GPU for a client process of Ray"
    )


def run(options: argparse.Namespace, console: Console) -> int:
    """Play one run in a folder of its own.

    Raises:
        ConfigError: a key or value is wrong, or the folder holds a finished run, is in use by another process, or
            cannot be resumed or made; nothing was started.
    """
    began, console.file = time.monotonic(), until_it_fails(console.file)
    refuse(options)
    config = prepare(options.conf, options.set) if options.resume is None else prepare_resumed(options)
    for warning in unread([config], keys_of(options.set)):
        complain(warning, "yellow")
    if options.superlink:
        return run_on_superlink(options, config, console)
    refuse_gpu(options.gpus_per_client, options.engine, config)
    nodes, rounds_before = config.partition.num_partitions, 0
    if config.resume:
        known = resumed(config)
        folder, rounds_before = known.folder, known.rounds_before
        for warning in known.warnings:
            complain(warning, "yellow")
    else:
        folder = begun_folder(config)
        lock(folder).close()  # refuses a folder that another run still writes to, before anything is removed
        for name in (METRICS_FILE, PARTITION_FILE):  # of an earlier attempt, not to be shown as this one's
            (folder / name).unlink(missing_ok=True)
    resume = str(folder) if config.resume else ""
    config = RunConfig.parse(config.flat() | {"run-folder": str(folder), "resume": resume, "clients.num-nodes": nodes})
    (folder / FAILURE_FILE).unlink(missing_ok=True)
    say(
        console,
        f"{config.experiment}: {config.method.name} (preset {config.preset}), {config.data.name}, {nodes} clients, "
        f"{config.partition.scheme} split, {config.rounds} rounds, engine {options.engine}; "
        f"{f'goes on after round {rounds_before} in' if rounds_before else 'results in'} {folder}",
    )
    failure = ""
    with RunProgress(folder, config, console, rounds_before=rounds_before):
        try:
            if options.engine == "ray":
                log_file = folder / "flower.log"
                simulate(config.flat(), num_nodes=nodes, log_file=log_file, gpus=options.gpus_per_client)
            else:
                _in_process(config, nodes)
        except Exception as error:
            if not isinstance(error, (RuntimeError, ValueError, OSError)):
                traceback.print_exc()  # not the user's mistake: show where it happened
            said = folder / FAILURE_FILE
            failure = said.read_text(encoding="utf-8") if said.exists() else str(error) or repr(error)
    if failure:
        complain(f"the run failed: {failure}")
        return FAILED
    console.print(closing(folder, time.monotonic() - began, rounds_before))
    return OK


def prepare_resumed(options: argparse.Namespace) -> RunConfig:
    """The settings of a run that goes on: its own, with the changes of `--set`.

    Raises:
        ConfigError: an experiment is named too, the folder holds no run, or a key or value is wrong.
    """
    if not options.resume:
        raise ConfigError("--resume is empty: name the folder of the run")
    if options.conf:
        raise ConfigError(f"--resume goes on with the settings in its folder; leave {options.conf} out")
    folder = expanded(options.resume).resolve()
    if not (folder / CONFIG_FILE).is_file():
        raise ConfigError(f"--resume {options.resume}: no run was begun there, there is no {CONFIG_FILE}")
    config = prepare(str(folder / CONFIG_FILE), options.set)
    return RunConfig.parse(config.flat() | {"run-folder": str(folder), "resume": str(folder)})


def _in_process(config: RunConfig, nodes: int) -> None:
    # Imported here: torch takes seconds, and the other engine does not need it in this process.
    from fedhpro_flwr.front_doors import sibling
    from fedhpro_flwr.launch.in_process import run_in_process

    getLogger("flwr").setLevel(WARNING)
    stderr = Console(stderr=True)
    update_console_handler(colored=stderr.is_terminal and not (stderr.no_color or stderr.is_dumb_terminal))
    run_in_process(sibling("server_app.app").app, sibling("client_app.app").app, nodes, config.flat())
