"""One process at a time writes in a run's folder.

A run whose command was killed may live on: the simulation engine under it is a process of its own, and so is the
ServerApp of a SuperLink that was killed. If it were resumed then, two servers would write the same files.
"""

from __future__ import annotations

from pathlib import Path
from typing import IO

from fedhpro_flwr.file_lock import locked_file

LOCK_FILE = ".writer"


def lock(folder: Path, patience: float = 0.0) -> IO[bytes]:
    """Lock a folder; it stays locked until the returned file is closed or the process ends.

    Args:
        folder: of the run.
        patience: seconds to wait for another run that holds it.

    Raises:
        ConfigError: the other run still holds it then, or the file system has no locks.
    """
    refusal = f"{folder}: another process still writes this run; wait for it or stop it"
    return locked_file(folder / LOCK_FILE, patience, refusal, "put run-folder or results-dir elsewhere")
