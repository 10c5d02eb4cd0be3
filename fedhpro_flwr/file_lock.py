"""A file that one process at a time holds locked; the lock ends with the process, however that ends."""

from __future__ import annotations

import fcntl
import time
from errno import EACCES, EAGAIN
from pathlib import Path
from typing import IO

from fedhpro_flwr.config import ConfigError

POLL_SECONDS = 0.2


class HeldError(ConfigError):
    """Another process holds the file."""


def locked_file(path: Path, patience: float, refusal: str, no_locks: str) -> IO[bytes]:
    """The open file. The lock lasts until the file is closed here and in all processes that inherited it.

    Args:
        path: the file; made if it is not there.
        patience: seconds to wait for another process that holds it.
        refusal: the message if that process still holds it then.
        no_locks: what to do if there are no locks, for the end of that message.

    Raises:
        HeldError: another process holds it.
        ConfigError: its file system has no locks.
    """
    file = path.open("ab")
    deadline = time.monotonic() + patience
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return file
        except OSError as error:
            if error.errno not in (EACCES, EAGAIN):
                file.close()
                raise ConfigError(
                    f"{path.parent}: its file system has no locks ({error.strerror}), and two processes that write "
                    f"there would not notice each other; {no_locks}"
                ) from None
            if time.monotonic() >= deadline:
                file.close()
                raise HeldError(refusal) from None
        time.sleep(POLL_SECONDS)
