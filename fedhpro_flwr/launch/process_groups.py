"""Process groups found by their processes' environment: once parents have died, they do not lead to their children."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

PROCESSES = Path("/proc")


def groups_with(variables: Mapping[str, str]) -> set[int]:
    """Ids of the process groups, except this process's own, with a process that was started with these variables.

    Only this user's processes can be seen, and only on Linux: without /proc none is found.
    """
    wanted = {os.fsencode(f"{name}={value}") for name, value in variables.items()}
    found = set()
    for folder in PROCESSES.glob("[0-9]*"):
        with suppress(OSError):  # another user's, or it has just ended
            if wanted <= set((folder / "environ").read_bytes().split(b"\0")):
                found.add(os.getpgid(int(folder.name)))
    return found - {os.getpgrp()}
