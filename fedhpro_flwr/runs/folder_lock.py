"""One process at a time writes in a run's folder.

A run whose command was killed may live on: the simulation engine under it is a process of its own, and so is the
ServerApp of a SuperLink that was killed. If it were resumed then, two servers would write the same files. In the locked
file stands the id of the run that holds it, by which a SuperLink can be asked about it.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import IO

from fedhpro_flwr.file_lock import HeldError, locked_file

LOCK_FILE = ".writer"


def lock(folder: Path, patience: float = 0.0, run_id: str = "") -> IO[bytes]:
    """Lock a folder; it stays locked until the returned file is closed or the process ends.

    Args:
        folder: of the run.
        patience: seconds to wait for another run that holds it.
        run_id: of the run that locks it, see `holder`; "" for a look, or a run that no SuperLink knows.

    Raises:
        HeldError: the other run still holds it then.
        ConfigError: the file system has no locks.
    """
    refusal = f"{folder}: another process still writes this run; wait for it or stop it"
    file = locked_file(folder / LOCK_FILE, patience, refusal, "put run-folder or results-dir elsewhere")
    if run_id:  # else it is a look at the folder, which leaves it as it is
        with suppress(OSError):  # a full disk: the lock holds without the name
            os.truncate(file.fileno(), 0)
            os.write(file.fileno(), run_id.encode())
    return file


def holder(folder: Path) -> str:
    """The id of the run that holds a folder; "" if nobody holds it.

    Raises:
        ConfigError: the file system has no locks.
    """
    try:
        lock(folder).close()
    except HeldError:
        return (folder / LOCK_FILE).read_text(encoding="utf-8")
    return ""
