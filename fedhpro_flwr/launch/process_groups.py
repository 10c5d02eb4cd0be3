"""Process groups found by what stands in their processes' environment: parents that have died lead to none of them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

PROCESSES = Path("/proc")


def groups_with(variables: Mapping[str, str]) -> set[int]:
    """Ids of the process groups, but this process's own, in which a process was started with these variables.

    Of this user's processes alone, and on Linux alone: elsewhere, where there is no /proc, none is found.
    """
    wanted = {os.fsencode(f"{name}={value}") for name, value in variables.items()}
    found = set()
    for folder in PROCESSES.glob("[0-9]*"):
        with suppress(OSError):  # another user's, or it has just ended
            if wanted <= set((folder / "environ").read_bytes().split(b"\0")):
                found.add(os.getpgid(int(folder.name)))
    return found - {os.getpgrp()}
