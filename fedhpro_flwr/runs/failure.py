"""Says why a run ended before its last round and how to go on, in the folder's failure.txt and in the exception."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from fedhpro_flwr.config import ConfigError
from fedhpro_flwr.runs.folder_lock import lock
from fedhpro_flwr.runs.run_folder import FAILURE_FILE, SUMMARY_FILE, RunFolder
from fedhpro_flwr.server.answers import TooFewNodes
from fedhpro_flwr.server.replies import QuorumError
from fedhpro_flwr.whole_file import write_whole


@contextmanager
def refusal_told(run_folder: str) -> Iterator[None]:
    """Why settings are refused is also written to the folder they name, unless a run is finished or at work in it."""
    try:
        yield
    except ConfigError as error:
        folder = Path(run_folder)
        if run_folder and not (folder / SUMMARY_FILE).exists():
            folder.mkdir(parents=True, exist_ok=True)
            with suppress(ConfigError), lock(folder):
                write_whole(folder / FAILURE_FILE, str(error).encode())
        raise


@contextmanager
def failure_told(folder: RunFolder, *, goes_on: bool) -> Iterator[None]:
    """Whatever ends the block is written to the folder. Errors that may pass, like a full disk, then say how to go on.

    Args:
        folder: of the run.
        goes_on: whether it had gone on from a checkpoint.
    """
    try:
        yield
    except Exception as error:
        reason = in_a_line(error, folder, goes_on=goes_on)
        folder.failure(reason)  # a full disk may have no room for it
        if isinstance(error, QuorumError):
            raise QuorumError(reason) from error
        if isinstance(error, OSError):
            raise OSError(reason) from error
        if isinstance(error, TooFewNodes):
            raise ConfigError(reason) from error
        raise


def in_a_line(error: Exception, folder: RunFolder, *, goes_on: bool) -> str:
    """Why a run ended, and how to go on with the rounds so far, unless the same would happen again.

    Args:
        error: that ended the run.
        folder: of the run.
        goes_on: whether it had gone on from a checkpoint.
    """
    match error:
        case QuorumError(may_pass=False):
            return (
                f"{error}; they would reply so again: begin with other settings; or, where it is not for them to mend, "
                f"as a full disk at the clients, mend it and {folder.going_on}"
            )
        case QuorumError() | OSError():
            return f"{error}; {folder.going_on}"
        case TooFewNodes() if goes_on:
            return f"{error}; {folder.going_on}"
        case ConfigError():
            return str(error)
    return f"{type(error).__name__}: {error}".splitlines()[0]  # torch's messages can be pages long
