"""One process at a time writes in a run's folder.

A run whose command was killed may live on: the simulation engine under it is a process of its own, and so is the
ServerApp of a SuperLink that was killed. Resuming it then would have two servers write the same files.
"""

from __future__ import annotations

import fcntl
import time
from errno import EACCES, EAGAIN
from pathlib import Path
from typing import IO

from fedhpro_flwr.config import ConfigError

LOCK_FILE = ".writer"
POLL_SECONDS = 0.2


def lock(folder: Path, patience: float = 0.0) -> IO[bytes]:
    """The open lock file of a folder. The lock is this process's until the file is closed or the process ends.

    Args:
        folder: of the run.
        patience: seconds to wait for another process that holds it.

    Raises:
        ConfigError: it still does, or there are no locks there.
    """
    file = (folder / LOCK_FILE).open("ab")
    deadline = time.monotonic() + patience
    while True:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return file
        except OSError as error:
            if error.errno not in (EACCES, EAGAIN):
                file.close()
                raise ConfigError(
                    f"{folder}: its file system has no locks ({error.strerror}), and two processes that write there "
                    "would not notice each other; put run-folder or results-dir elsewhere"
                ) from None
            if time.monotonic() >= deadline:
                file.close()
                raise ConfigError(f"{folder}: another process still writes this run; wait for it or stop it") from None
        time.sleep(POLL_SECONDS)
