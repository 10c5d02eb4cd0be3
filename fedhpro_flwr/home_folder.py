"""`~` in a path: the shell leaves it where it does not begin a word, as in `--set data.root=~/data`."""

from __future__ import annotations

import os
from pathlib import Path


def expanded(path: str | Path) -> Path:
    """The path with `~` and `~user` as home folders. A `~user` that nobody is stays as written, as in a shell."""
    return Path(os.path.expanduser(path))
