"""Tells files that are read to their end from those that may have none."""

from __future__ import annotations

from pathlib import Path


def is_endless(path: Path) -> bool:
    """Whether it is a pipe, which would be waited for, or a device, which may go on for ever; a folder is neither."""
    return not path.is_file() and not path.is_dir() and path.exists()
