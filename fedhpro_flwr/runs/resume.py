"""Whether a run can go on in its folder, and from where: it needs the settings it was begun with, and rounds to play.

A run that was stopped at any moment goes on bit for bit as if it had not been; a finished one can be made longer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from logging import WARNING
from pathlib import Path
from secrets import token_hex
from typing import IO

from flwr.common.logger import log

from fedhpro_flwr.code_fingerprint import code_fingerprint
from fedhpro_flwr.config import ConfigError, RunConfig, Scalar
from fedhpro_flwr.device import settle
from fedhpro_flwr.home_folder import expanded
from fedhpro_flwr.runs.checkpoint import Checkpoint, RunSoFar
from fedhpro_flwr.runs.checkpoints import newest
from fedhpro_flwr.runs.copied_run import refuse_copied_run
from fedhpro_flwr.runs.folder_lock import lock
from fedhpro_flwr.runs.run_folder import (
    CHECKPOINT_FOLDER,
    CONFIG_FILE,
    SUMMARY_FILE,
    RunFolder,
    begun_folder,
    content_of,
    read_rounds,
)
from fedhpro_flwr.runs.summary import read_alone
from fedhpro_flwr.server.known_data import known_data
from fedhpro_flwr.settings.places import COMPARED_RUN, DECIDES_NOTHING, differing
from fedhpro_flwr.settings.recorded import of_recorded, read_recorded

# Settings that may differ from those a run was begun with: how long it goes on, whom it waits for, where things lie.
FREE = DECIDES_NOTHING | {"rounds", "resume", "clients.quorum", COMPARED_RUN}
NOT_BEGUN, ALREADY_FINISHED = "holds no run that was begun", "the run is finished after"  # in two refusals
ORPHAN_SECONDS = 90.0  # to wait for a ServerApp that lost its SuperLink: it ends once a SuperLink answers again


@dataclass(frozen=True)
class Resumed:
    """A run that can go on."""

    folder: Path
    config: RunConfig  # to be written to the run's own config.toml
    checkpoint: Checkpoint | None  # None if none was written yet: the run begins with round 1
    warnings: tuple[str, ...] = ()

    @property
    def rounds_before(self) -> int:
        """Rounds that need not be played again."""
        return self.checkpoint.about.server_round if self.checkpoint else 0


def resumed(config: RunConfig) -> Resumed:
    """The run that `resume` asks for, checked before anything in its folder is changed.

    Raises:
        ConfigError: the folder holds no run, no good checkpoint, or a run with other settings, which are named; there
            is nothing left to play; another process still plays it; it is a copy of a run that is still there, and
            shares what its clients keep; or `evaluation.alone` cannot be compared with, see `read_alone`.
    """
    folder, begun_with = _begun(config)
    lock(folder).close()
    return _looked_at(folder, begun_with, config)


def _begun(config: RunConfig) -> tuple[Path, Mapping[str, Scalar]]:
    """The folder that `resume` names, and the settings in it."""
    folder, named = expanded(config.resume).resolve(), f"resume = {config.resume!r}"
    try:
        return folder, read_recorded(folder / CONFIG_FILE).flat()
    except FileNotFoundError:
        raise ConfigError(f"{named} {NOT_BEGUN}: there is no {CONFIG_FILE} in it") from None
    except OSError as error:
        raise ConfigError(f"{named}: its {CONFIG_FILE} cannot be read ({error.strerror})") from None
    except ValueError as error:
        raise ConfigError(f"{named}: its {CONFIG_FILE} is no good ({error})") from None


def _looked_at(folder: Path, begun_with: Mapping[str, Scalar], config: RunConfig) -> Resumed:
    named = f"resume = {config.resume!r}"
    try:
        found = newest(folder)
    except PermissionError as error:
        raise ConfigError(f"{named}: {error.filename} cannot be read ({error.strerror})") from None
    except ValueError as error:
        raise ConfigError(f"{named}: no checkpoint is left to go on from, {error}; begin a new run") from None
    checkpoint, warnings = found.checkpoint, [f"{why}: the checkpoint before is used" for why in found.passed_over]
    refuse_other_settings(checkpoint.about.settings if checkpoint else begun_with, config, named)
    refuse_copied_run(folder, str(begun_with["run-folder"]), config)
    read_alone(config)
    if checkpoint is None:
        _refuse_without_checkpoint(folder, config, named)
        warnings.append("no checkpoint was written yet: the run begins with round 1")
    else:
        _refuse_nothing_to_play(folder, checkpoint, config, named)
        if checkpoint.about.code != code_fingerprint():
            warnings.append("the code has changed since: what follows may differ from what it would have been")
    settings = config.flat() | {"run-folder": str(folder), "resume": ""}
    return Resumed(folder, RunConfig.parse(settings), checkpoint, tuple(warnings))


def open_run(config: RunConfig, run_id: str = "") -> tuple[RunFolder, RunConfig, Checkpoint | None]:
    """The folder that a run writes to, the settings with that folder in them, and the checkpoint that it goes on from.

    Args:
        config: the settings.
        run_id: that the SuperLink gave the run, for `holder`.

    Raises:
        ConfigError: the folder holds a finished run, or what `resume` names cannot go on: see `resumed`; or the data at
            hand is not what the run was begun with.
    """
    # The lock is held from the first look at the folder on: else another process could play the run in between.
    held: IO[bytes] | None = None
    try:
        if not config.resume:
            if config.run_folder and Path(config.run_folder).is_dir():
                held = lock(Path(config.run_folder), ORPHAN_SECONDS, run_id)
            path = begun_folder(config)
            held = held or lock(path, run_id=run_id)
            # So that its config.toml names the folder too, and clients of a simulation keep their state there.
            config = RunConfig.parse(config.flat() | {"run-folder": str(path)})
            return RunFolder(path, config, held=held), config, None
        path, begun_with = _begun(config)
        held = lock(path, ORPHAN_SECONDS, run_id)
        known = _looked_at(path, begun_with, config)
        for warning in known.warnings:
            log(WARNING, "%s", warning)
        refuse_changed_data(known)
        folder = RunFolder(path, known.config, rounds_before=known.rounds_before, goes_on=True, held=held)
        return folder, known.config, known.checkpoint
    except BaseException:
        if held:
            held.close()
        raise


def refuse_changed_data(known: Resumed) -> None:
    """A run that has a checkpoint does not go on with other data.

    Raises:
        ConfigError: the data at hand is divided otherwise, or has other samples.
    """
    if known.checkpoint:
        settle(known.config)
        data = known_data(known.config)
        refuse_other_data(known.checkpoint, data.fingerprint)
        refuse_other_samples(known.folder, data.content)


def run_so_far(checkpoint: Checkpoint | None, config: RunConfig, data: str, name: str) -> RunSoFar:
    """The run that the strategy plays: that of the checkpoint, or without one a new run.

    Args:
        checkpoint: to go on from.
        config: the settings at hand.
        data: fingerprint of the partition at hand.
        name: of a new run; drawn at random if empty.

    Raises:
        ConfigError: the checkpoint is of other settings or other data.
    """
    if checkpoint is None:
        return RunSoFar(name or token_hex(4))
    refuse_other_settings(checkpoint.about.settings, config, "resume")
    refuse_other_data(checkpoint, data)
    return checkpoint.about


def refuse_other_settings(begun_with: Mapping[str, Scalar], config: RunConfig, named: str) -> None:
    """A run does not go on with other settings.

    Raises:
        ConfigError: some differ that decide the result; the message names them.
    """
    # A ramped margin rises until the last round, so in a longer run it would have been smaller all along.
    free = FREE - {"rounds"} if config.losses.margin_schedule == "ramp" else FREE
    if other := differing(of_recorded(begun_with).flat(), config.flat(), free):
        raise ConfigError(f"{named}: the run was begun with {other}; it goes on with its own settings alone")


def refuse_other_data(checkpoint: Checkpoint, fingerprint: str) -> None:
    """A run does not go on with other samples at its clients.

    Raises:
        ConfigError: the partition's fingerprint is another than that of the run so far.
    """
    if checkpoint.about.data != fingerprint:
        raise ConfigError(
            f"the data has changed: the run was begun with partition {checkpoint.about.data}, this is {fingerprint}; "
            "bring the old data back, or begin a new run"
        )


def refuse_other_samples(folder: Path, content: str) -> None:
    """A partition's fingerprint counts positions in the data; the samples at these positions may have changed too.

    Raises:
        ConfigError: the run's partition.json has another fingerprint of the samples.
    """
    before = content_of(folder)
    if before and before != content:
        raise ConfigError(
            f"the data has changed: the run was begun with samples {before}, these are {content}; bring the old data "
            "back, or begin a new run"
        )


def _refuse_without_checkpoint(folder: Path, config: RunConfig, named: str) -> None:
    every = config.checkpoint.every
    if every == 0:
        raise ConfigError(f"{named}: there are no checkpoints, the run has checkpoint.every = 0; begin a new run")
    # A run can have stopped between the line of a round and the first checkpoint, but not have more lines without one.
    if (folder / SUMMARY_FILE).exists() or len(read_rounds(folder)) > every:
        raise ConfigError(f"{named}: its folder {CHECKPOINT_FOLDER} is gone; begin a new run")


def _refuse_nothing_to_play(folder: Path, checkpoint: Checkpoint, config: RunConfig, named: str) -> None:
    rounds = checkpoint.about.server_round
    if config.rounds < rounds:
        raise ConfigError(f"{named}: {rounds} rounds were played, rounds = {config.rounds} is fewer")
    if config.rounds == rounds and (folder / SUMMARY_FILE).exists():
        raise ConfigError(f"{named}: {ALREADY_FINISHED} {rounds} rounds; to make it longer set more rounds")
