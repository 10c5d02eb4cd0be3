"""A file that is there whole or not at all."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

ABANDONED_AFTER = 3600.0  # seconds without a byte written: whoever wrote it was killed


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A new name beside `path` to write a file to, which becomes `path` when the block ends.

    After a crash at any moment there is the old file or the new one, never a part. If the block, or the renaming after
    it, raises anything, the new file is deleted. Any number of processes may write the same `path`: the last one wins.
    """
    scratch = path.with_name(f".{path.name}.{uuid4().hex}.part")
    try:
        with naming(path):
            scratch.touch()
            mode = scratch.stat().st_mode  # as the umask has it; what safetensors writes nobody else may read
            yield scratch
            if scratch.stat().st_mode != mode:
                scratch.chmod(mode)
            with scratch.open("rb+") as file:
                os.fsync(file.fileno())
            scratch.replace(path)
    except BaseException:
        scratch.unlink(missing_ok=True)
        raise


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Make a system error that names no file, such as that of a full disk, name `path`."""
    try:
        yield
    except OSError as error:
        if error.errno is None or error.filename is not None:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error


def write_whole(path: Path, content: bytes) -> None:
    """Write a file so that after a crash at any moment there is the old one or the new one, never a part."""
    with whole_file(path) as scratch:
        scratch.write_bytes(content)


def remove_unfinished(folder: Path) -> None:
    """Delete the parts of files that killed writers left anywhere below a folder; nobody may be writing there now."""
    for path in folder.rglob(".*.part"):
        path.unlink(missing_ok=True)


def remove_abandoned(folder: Path) -> None:
    """Delete the parts of files that killed writers left in a folder where others may be writing now.

    They are told by age alone: no lock or process id says whether a writer on another machine, which shares the folder,
    still runs. A live writer that is taken for dead cannot finish its file, and raises FileNotFoundError.
    """
    with suppress(OSError):  # a folder of others; and others may delete the same file
        for path in folder.glob(".*.part"):
            if time.time() - path.stat().st_mtime > ABANDONED_AFTER:
                path.unlink(missing_ok=True)
