"""`fedhpro run --superlink`: the run on a deployed SuperLink, looked after until its end."""

from __future__ import annotations

import argparse
import os
import shlex
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.text import Text

from fedhpro_flwr.commands import FAILED, NOT_STARTED, OK
from fedhpro_flwr.commands.complaint import complain, say
from fedhpro_flwr.config import ConfigError, RunConfig
from fedhpro_flwr.home_folder import expanded
from fedhpro_flwr.launch.connections import direct, flower_home, named
from fedhpro_flwr.launch.deployment import Deployment
from fedhpro_flwr.launch.flower import Flower, LaunchError
from fedhpro_flwr.launch.log_file import LogFile
from fedhpro_flwr.launch.not_taken import explained
from fedhpro_flwr.launch.termination import in_order
from fedhpro_flwr.launch.unattended import unattended
from fedhpro_flwr.runs.closing import closing
from fedhpro_flwr.runs.resume import resumed
from fedhpro_flwr.runs.run_folder import CONFIG_FILE, SUMMARY_FILE, new_path, read_rounds, refuse_taken

LOG_FILE = "flower.log"
RESTARTS = 3  # of a lost run, if --restarts is not given


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Declare the options for the SuperLink, and for what to do if the run is lost."""
    group = command.add_argument_group("on a deployed SuperLink")
    group.add_argument(
        "--superlink", metavar="NAME", help="a connection in Flower's config.toml, or HOST:PORT; docs/deployment.md"
    )
    group.add_argument("--insecure", action="store_true", help="HOST:PORT speaks no TLS")
    group.add_argument(
        "--root-certificates", default="", metavar="FILE", help="who signed HOST:PORT's certificate, if not a public CA"
    )
    group.add_argument(
        "--restarts",
        type=int,
        metavar="N",
        help="submit the run again so often, from its last checkpoint, where its SuperLink or ServerApp was lost "
        f"({RESTARTS})",
    )
    group.add_argument("--detach", action="store_true", help="leave the run there and print its id")


def refuse(options: argparse.Namespace) -> None:
    """Refuse options that do not go together.

    Raises:
        ConfigError: some do not; the message names them.
    """
    address = bool(options.superlink) and ":" in options.superlink
    if options.superlink == "":
        raise ConfigError("--superlink is empty: name a connection of Flower's config.toml, or HOST:PORT")
    if options.superlink is None:
        restarts = options.restarts is not None  # `--restarts 0` is given too
        for given, name in ((options.insecure, "insecure"), (options.detach, "detach"), (restarts, "restarts")):
            if given:
                raise ConfigError(f"--{name} is for a run on a deployed SuperLink; name it with --superlink")
    elif options.engine != "ray" or options.gpus_per_client:
        raise ConfigError(f"--superlink {options.superlink}: --engine and --gpus-per-client are for simulations")
    if (options.insecure or options.root_certificates) and not address:
        raise ConfigError(
            "--insecure and --root-certificates go with --superlink HOST:PORT; a named connection has its own"
        )
    if options.restarts is not None and options.restarts < 0:
        raise ConfigError(f"--restarts {options.restarts}: it must be 0 or more")


def run_on_superlink(options: argparse.Namespace, config: RunConfig, console: Console) -> int:
    """Submit a run, or look after one that goes on there; show its log, and submit it again if it was lost.

    Args:
        options: of the command line.
        config: the settings.
        console: where the log is shown.

    Raises:
        ConfigError: the SuperLink's name or address is wrong, or the folder holds a finished run, one that cannot be
            resumed, or one that goes on with other settings; nothing was submitted.
    """
    began, told = time.monotonic(), partial(complain, style="yellow")
    with superlink(options) as flower, ExitStack() as opened:
        try:
            goes_on = unattended(config, flower, told)
        except LaunchError as error:
            complain(f"not submitted: {explained(error, flower)}")
            return NOT_STARTED
        config = placed(config, told, goes_on=goes_on is not None)
        folder = Path(config.run_folder)
        before = len(read_rounds(folder)) if config.resume else 0
        log = opened.enter_context(LogFile(log_of(folder), told, again=goes_on is not None))

        def show(line: str) -> None:
            log.write(line)
            console.print(Text.from_ansi(line), soft_wrap=True)

        deployment = Deployment(flower, show, told, RESTARTS if options.restarts is None else options.restarts)
        try:
            submitted = goes_on or deployment.submit(config.flat())
        except LaunchError as error:
            complain(f"not submitted: {explained(error, flower)}")
            return NOT_STARTED
        say(
            console,
            f"{config.experiment}: run {submitted.run_id} on {options.superlink}{' goes on' if goes_on else ''}, "
            f"{config.rounds} rounds, results in {folder} on the SuperLink's machine, log in {log.path}",
        )
        if options.detach:
            again = ["fedhpro", "run", "--resume", str(folder), "--superlink", options.superlink]
            again += ["--insecure"] if options.insecure else []
            again += ["--root-certificates", options.root_certificates] if options.root_certificates else []
            say(console, f"nobody looks after it now; on the SuperLink's machine `{shlex.join(again)}` does")
            return OK
        try:
            deployment.play(submitted, config)
        except LaunchError as error:
            complain(f"the run failed: {error}")
            return FAILED
    if (folder / SUMMARY_FILE).exists():
        console.print(closing(folder, time.monotonic() - began, before))
    else:
        say(console, f"done: the results are in {folder} on the SuperLink's machine")
    return OK


@contextmanager
def superlink(options: argparse.Namespace) -> Iterator[Flower]:
    """Flower's commands, speaking with the SuperLink that the options name.

    Raises:
        ConfigError: there is no connection of that name, or the address is not valid.
    """
    with in_order(), tempfile.TemporaryDirectory(prefix="fedhpro-") as scratch:
        home, name = flower_home(), options.superlink
        if ":" in name:
            home = Path(scratch) / "home"
            home.mkdir()
            chosen = direct(name, home, insecure=options.insecure, root_certificates=options.root_certificates)
        else:
            chosen = named(name, home)
        work = Path(scratch) / "work"
        work.mkdir()
        yield Flower(home, chosen, work)


def placed(config: RunConfig, told: Callable[[str], None], *, goes_on: bool) -> RunConfig:
    """The settings with an absolute `run-folder`: a place on the SuperLink's machine, which may be this one.

    Args:
        config: the settings.
        told: gets the warnings of a run that is resumed.
        goes_on: the run is played in its folder now, and not resumed.

    Raises:
        ConfigError: the folder is on this machine, and holds a finished run or one that cannot be resumed.
    """
    if config.resume:
        folder = expanded(config.resume).resolve()
        # If it is not here, it is on another machine, where the ServerApp will check it.
        if (folder / CONFIG_FILE).is_file() and not goes_on:
            for warning in resumed(config).warnings:
                told(warning)
    else:
        results = expanded(config.results_dir or "results").resolve()
        folder = expanded(config.run_folder).resolve() if config.run_folder else new_path(results, config.experiment)
        refuse_taken(folder)
    place = {"run-folder": str(folder), "resume": str(folder) if config.resume else ""}
    return RunConfig.parse(config.flat() | place)


def log_of(folder: Path) -> Path:
    """The log's file: in the run's folder, or in the working directory if that folder is on another machine."""
    with suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
    if os.access(folder, os.W_OK):
        return folder / LOG_FILE
    return Path(f"{folder.name}-{LOG_FILE}").resolve()
