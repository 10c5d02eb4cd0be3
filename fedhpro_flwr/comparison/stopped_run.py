"""Whether a run of a grid that was stopped or killed can go on, with the bits of one that was not."""

from __future__ import annotations

from pathlib import Path

from fedhpro_flwr.code_fingerprint import code_fingerprint
from fedhpro_flwr.comparison.child_process import LOCK_SECONDS
from fedhpro_flwr.comparison.grid import NOT_COMPARED
from fedhpro_flwr.config import ConfigError, RunConfig
from fedhpro_flwr.runs.folder_lock import lock
from fedhpro_flwr.runs.resume import refuse_changed_data, resumed
from fedhpro_flwr.runs.run_folder import CONFIG_FILE
from fedhpro_flwr.settings.from_command_line import prepare
from fedhpro_flwr.settings.places import differing
from fedhpro_flwr.settings.recorded import of_recorded


def is_written(folder: Path) -> bool:
    """Whether another process still writes the run in a folder: `fedhpro run --resume` then refuses it with a sentence.

    The engine under a run that was killed takes a moment to end; this waits for it.
    """
    try:
        lock(folder, LOCK_SECONDS).close()
    except ConfigError:
        return True
    return False


def goes_on_after(folder: Path) -> int:
    """The round after which the run in a folder can go on; 0 if it must begin anew.

    It can if its checkpoint is of the settings in its config.toml, of this code and these samples. `fedhpro run
    --resume` goes on under changed code too, with a warning, or with more rounds and another quorum; in a table nobody
    would see that.
    """
    try:
        config = prepare(str(folder / CONFIG_FILE), [])
        known = resumed(RunConfig.parse(config.flat() | {"run-folder": str(folder), "resume": str(folder)}))
        if known.checkpoint is None or known.checkpoint.about.code != code_fingerprint():
            return 0
        begun_with = of_recorded(known.checkpoint.about.settings)
        if differing(begun_with.flat(), config.flat(), NOT_COMPARED):
            return 0
        refuse_changed_data(known)
    except (OSError, ValueError):
        return 0
    return known.rounds_before
