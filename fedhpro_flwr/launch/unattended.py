"""A run that goes on at its SuperLink although the command that looked after it was killed or left it there."""

from __future__ import annotations

from collections.abc import Callable

from fedhpro_flwr.config import ConfigError, RunConfig
from fedhpro_flwr.home_folder import expanded
from fedhpro_flwr.launch.flower import Flower
from fedhpro_flwr.launch.submitted_run import LOST, SubmittedRun
from fedhpro_flwr.runs.folder_lock import holder, lock
from fedhpro_flwr.runs.resume import ORPHAN_SECONDS
from fedhpro_flwr.runs.run_folder import CONFIG_FILE
from fedhpro_flwr.settings.places import OF_THE_RUN, differing
from fedhpro_flwr.settings.recorded import read_recorded

NOT_COMPARED = {"resume", *OF_THE_RUN}  # how the folder is named


def unattended(config: RunConfig, flower: Flower, told: Callable[[str], None]) -> SubmittedRun | None:
    """The run that is still played in the folder that `resume` names; None if it has to be submitted.

    A ServerApp whose run is over at the SuperLink, because that was killed, is given the time that it needs to end.

    Args:
        config: the settings, with those changes that the command line makes.
        flower: speaks with the SuperLink.
        told: gets a sentence of what is waited for.

    Raises:
        ConfigError: the run is played with other settings, or a process writes in the folder that this SuperLink does
            not know.
        UnreachableError: the SuperLink does not answer.
    """
    folder = expanded(config.resume).resolve()
    if not config.resume or not (folder / CONFIG_FILE).is_file() or not (run_id := holder(folder)):
        return None
    run = SubmittedRun(flower, run_id)
    status = run.status()
    if not status.finished:
        if other := differing(read_recorded(folder / CONFIG_FILE).flat(), config.flat(), NOT_COMPARED):
            raise ConfigError(
                f"{folder}: run {run_id} goes on there with {other}; leave the change out to look after it, or end it "
                f"before with `flwr stop {run_id}`"
            )
        return run
    if status.state != LOST:
        told(f"run {run_id} is over, waiting for its ServerApp to leave {folder}, {ORPHAN_SECONDS:.0f} s at most")
        lock(folder, ORPHAN_SECONDS).close()
    return None
