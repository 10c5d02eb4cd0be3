"""One process at a time writes in a run's folder.

A run whose command was killed may live on: the simulation engine under it is a process of its own, and so is the
ServerApp of a SuperLink that was killed. Resuming it then would have two servers write the same files.
"""

from __future__ import annotations

from pathlib import Path
from typing import IO

from fedhpro_flwr.file_lock import locked_file

LOCK_FILE = ".writer"


def lock(folder: Path, patience: float = 0.0) -> IO[bytes]:
    """The open lock file of a folder, which is locked until it is closed or the process ends.

    Args:
        folder: of the run.
        patience: seconds to wait for another run that holds it.

    Raises:
        ConfigError: it still does, or there are no locks there.
    """
    refusal = f"{folder}: another process still writes this run; wait for it or stop it"
    return locked_file(folder / LOCK_FILE, patience, refusal, "put run-folder or results-dir elsewhere")
