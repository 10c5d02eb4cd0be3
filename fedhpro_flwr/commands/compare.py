"""`fedhpro compare`: methods x varied values x seeds as one table."""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path

from rich.console import Console

from fedhpro_flwr.commands import FAILED, Subparsers
from fedhpro_flwr.commands.complaint import complain
from fedhpro_flwr.commands.run import add_settings
from fedhpro_flwr.comparison.grid import NO_CHOICES, Choices, Grid, build_grid, unread_in
from fedhpro_flwr.comparison.panels import overview
from fedhpro_flwr.comparison.rows import Row, read_columns, read_rows, read_seeds
from fedhpro_flwr.comparison.study import run_study
from fedhpro_flwr.comparison.table import baseline_of
from fedhpro_flwr.comparison.tuning import SHARE, NothingChosenError, Tuning
from fedhpro_flwr.config import ConfigError
from fedhpro_flwr.home_folder import expanded
from fedhpro_flwr.launch.gpu_share import refuse_gpu
from fedhpro_flwr.settings.from_command_line import keys_of, read_settings


def add_parser(commands: Subparsers) -> None:
    """Declare `fedhpro compare`."""
    command = commands.add_parser("compare", help="run methods on the same splits and seeds and write one table")
    command.add_argument("conf", help="a TOML file, or the name of one in conf/")
    command.add_argument(
        "--methods",
        required=True,
        metavar="A,B,...",
        help="each a NAME, NAME+hyper, NAME:key=value;key=value or preset:NAME",
    )
    add_grid(command)
    command.set_defaults(command=compare)


def add_grid(command: argparse.ArgumentParser) -> None:
    """Declare the arguments that all commands that run a grid have."""
    command.add_argument("--seeds", default="0,1,2", metavar="0,1,2", help="(default: 0,1,2)")
    command.add_argument(
        "--vary", action="append", default=[], metavar="KEY=V1,V2", help="a column of the table for each value"
    )
    command.add_argument(
        "--tune",
        action="append",
        default=[],
        metavar="KEY=V1,V2",
        help="each row takes the value that does best for it on validation data; given twice, the best pair",
    )
    command.add_argument(
        "--tune-seeds", metavar="3,4", help="of the runs that choose (default: one, the first above those of --seeds)"
    )
    add_settings(command)
    command.add_argument("--jobs", type=int, default=1, help="runs at a time (default: 1)")
    command.add_argument("--folder", help="where runs and tables go (default: results/EXPERIMENT/COMMAND)")
    command.add_argument(
        "--target",
        type=float,
        metavar="SHARE",
        help="accuracy to reach, as 0.9 (default: the baseline's mean of the last ten rounds)",
    )
    command.add_argument("--baseline", metavar="METHOD", help="the row that the others are compared with")


def compare(options: argparse.Namespace, console: Console) -> int:
    """Run and show all methods as one table.

    Raises:
        ConfigError: a run of the grid cannot be started, or a folder holds another run or cannot be written; nothing
            was started.
    """
    rows = read_rows(options.methods)
    return run_grid(options, console, rows, baseline_of(rows, options.baseline))


def run_grid(options: argparse.Namespace, console: Console, rows: tuple[Row, ...], baseline: str) -> int:
    """Run a grid of these rows and show its table, for `compare` and `ablate`."""
    if options.jobs < 1:
        raise ConfigError(f"--jobs {options.jobs}: at least one run at a time")
    if options.target is not None and not 0 < options.target <= 1:
        raise ConfigError(f"--target {options.target}: write an accuracy between 0 and 1, as 0.9")
    played = partial(
        run_study,
        arguments=["--engine", options.engine, "--gpus-per-client", str(options.gpus_per_client)],
        console=console,
        baseline=baseline,
        target=None if options.target is None else 100 * options.target,
        jobs=options.jobs,
        keep_workers=options.engine == "in-process",
        refuse=partial(refuse_gpu, options.gpus_per_client, options.engine),
    )
    grid, tuning = grid_of(options, rows), tuning_of(options)
    trials = tuning and tuning.grid(options.conf, options.set, grid.rows, grid.columns, grid.folder)
    for warning in unread_in(trials or grid, options.set):
        complain(warning, "yellow")
    try:
        if tuning and trials:
            console.print("first what each row does best with, on validation data:", markup=False)
            tried = played(trials, shown=overview)
            try:
                chosen = tuning.choose(grid.rows, grid.columns, tried.runs, tried.missing)
            except NothingChosenError as error:
                complain(str(error))
                return FAILED
            grid = grid_of(options, rows, chosen)
        return played(grid).status
    except KeyboardInterrupt:
        complain("runs that have finished stay; the same command does the others and writes the table")
        raise


def grid_of(options: argparse.Namespace, rows: tuple[Row, ...], chosen: Choices = NO_CHOICES) -> Grid:
    """All runs that the arguments ask for. If `--tune` has chosen values for the rows, the runs have these and are
    tested on the test data, though the choice was made on validation data."""
    changes = [*options.set, f"{SHARE}=0"] if chosen else options.set
    experiment = str(read_settings(options.conf, options.set)["experiment"])
    default = Path("results") / experiment / options.command.__name__
    return build_grid(
        options.conf,
        changes,
        rows=rows,
        columns=read_columns(options.vary),
        seeds=read_seeds(options.seeds),
        folder=(expanded(options.folder) if options.folder else default).resolve(),
        chosen=chosen,
    )


def tuning_of(options: argparse.Namespace) -> Tuning | None:
    """What is tried for each row before the runs of the table; None without `--tune`.

    Raises:
        ConfigError: seeds without anything to try, a seed that the table has too, or a key that is varied as well.
    """
    if not options.tune:
        if options.tune_seeds is not None:
            raise ConfigError(f"--tune-seeds {options.tune_seeds}: there is nothing to choose without --tune")
        return None
    seeds = read_seeds(options.seeds)
    own = (max(seeds) + 1,) if options.tune_seeds is None else read_seeds(options.tune_seeds, "--tune-seeds")
    if both := sorted(set(own) & set(seeds)):
        raise ConfigError(f"--tune-seeds: {both[0]} is a seed of the table too; choose on others")
    tried = read_columns(options.tune, "--tune")
    varied = {key for column in read_columns(options.vary) for key in keys_of(column.changes)}
    if twice := sorted(varied.intersection(keys_of(tried[0].changes))):
        raise ConfigError(f"--tune: {twice[0]} is varied by --vary too; leave one of them out")
    return Tuning(tried, own)
