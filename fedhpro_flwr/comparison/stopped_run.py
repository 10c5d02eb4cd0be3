"""Whether a run of a grid that was stopped or killed can go on, with the bits of one that was not."""

from __future__ import annotations

from pathlib import Path

from fedhpro_flwr.code_fingerprint import code_fingerprint
from fedhpro_flwr.comparison.child_process import LOCK_SECONDS
from fedhpro_flwr.comparison.grid import NOT_COMPARED
from fedhpro_flwr.config import ConfigError, RunConfig
from fedhpro_flwr.runs.folder_lock import lock
from fedhpro_flwr.runs.resume import refuse_changed_data, resumed
from fedhpro_flwr.runs.run_folder import CHECKPOINT_FOLDER, CONFIG_FILE
from fedhpro_flwr.settings.differing import differing
from fedhpro_flwr.settings.from_command_line import prepare
from fedhpro_flwr.settings.recorded import of_recorded


def goes_on(folder: Path) -> bool:
    """Whether the run in a folder has a checkpoint of the settings in its config.toml, of this code and these samples.

    `fedhpro run --resume` goes on under changed code too, with a warning, or with more rounds and another quorum; in a
    table nobody would see that. It refuses a run that another process still writes, so nothing may be removed there.
    """
    if not (folder / CHECKPOINT_FOLDER).exists():
        return False
    try:
        lock(folder, LOCK_SECONDS).close()  # the engine under a run that was killed takes a moment to end
    except ConfigError:
        return True
    try:
        config = prepare(str(folder / CONFIG_FILE), [])
        known = resumed(RunConfig.parse(config.flat() | {"run-folder": str(folder), "resume": str(folder)}))
        if known.checkpoint is None or known.checkpoint.about.code != code_fingerprint():
            return False
        begun_with = of_recorded(known.checkpoint.about.settings)
        if differing(begun_with.flat(), config.flat(), NOT_COMPARED):
            return False
        refuse_changed_data(known)
    except (ConfigError, OSError, ValueError):
        return False
    return True
