"""Places that a command or a run writes to: made and tried before time is spent; a refusal names who named them.

An operating system's own words, "[Errno 2] No such file or directory: '/proc/x'", say neither which setting named the
place nor what to do.
"""

from __future__ import annotations

import os
from pathlib import Path
from tempfile import TemporaryFile

from fedhpro_flwr.settings.flat_keys import ConfigError


def make_folder(folder: Path, named: str) -> None:
    """Make a folder, and those above it, unless it is there.

    Args:
        folder: the folder.
        named: who names it, for the message: `--folder results/x`.

    Raises:
        ConfigError: it cannot be made, or no file can be written to it.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        try_to_write(folder)
    except OSError as error:
        file = next((place for place in (folder, *folder.parents) if os.path.isfile(place)), None)
        why = f"{file} is a file" if file else f"it cannot be made or written ({error.strerror})"
        raise ConfigError(f"{named}: {why}; name another folder") from None


def refuse_unwritable_folder(folder: Path, named: str) -> None:
    """Check that a folder could be made and written to; nothing is left there.

    Args:
        folder: the folder, which need not exist yet.
        named: who names it, for the message: `clients.state-path = 'x'`.

    Raises:
        ConfigError: it could not be.
    """
    existing = next(place for place in (folder, *folder.absolute().parents) if os.path.exists(place))
    try:
        try_to_write(existing)
    except OSError as error:
        raise ConfigError(
            f"{named}: nothing can be written in {existing} ({error.strerror}); name another folder"
        ) from None


def refuse_unwritable_file(file: Path, named: str) -> None:
    """Check that a file could be written at its place.

    Args:
        file: the file; one that is there will be overwritten.
        named: who names it, for the message: `--out x.csv`.

    Raises:
        ConfigError: it is a folder, its folder does not exist, or no file can be written to its folder.
    """
    if file.is_dir():
        raise ConfigError(f"{named} is a folder; name a file")
    if not file.parent.is_dir():
        raise ConfigError(f"{named}: there is no folder {file.parent}; make it first")
    try:
        try_to_write(file.parent)
    except OSError as error:
        raise ConfigError(
            f"{named}: no file can be written to {file.parent} ({error.strerror}); name another folder"
        ) from None


def try_to_write(folder: Path) -> None:
    """Write a file that is gone at once: a folder's permissions alone do not say whether one can write to it.

    Raises:
        OSError: one cannot.
    """
    with TemporaryFile(dir=folder) as file:
        file.write(b"\0")


def users_state_folder() -> Path:
    """Where a node keeps what does not travel unless it is told another place: below the user's state folder."""
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "fedhpro"
