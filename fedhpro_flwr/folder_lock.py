"""One process at a time writes in a run's folder.

A run whose command was killed may live on: the simulation engine under it is a process of its own. Resuming it then
would have two servers write the same files.
"""

from __future__ import annotations

import fcntl
from pathlib import Path
from typing import IO

from fedhpro_flwr.config import ConfigError

LOCK_FILE = ".writer"


def lock(folder: Path) -> IO[bytes]:
    """The open lock file of a folder. The lock is this process's until the file is closed or the process ends.

    Raises:
        ConfigError: another process holds it.
    """
    file = (folder / LOCK_FILE).open("ab")
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        raise ConfigError(f"{folder}: another process still writes this run; wait for it or stop it") from None
    return file
