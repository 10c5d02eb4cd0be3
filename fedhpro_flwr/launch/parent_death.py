"""A child that is interrupted when its parent dies, however that dies: kill -9 too, of which nobody hears."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Callable

PR_SET_PDEATHSIG = 1  # of linux/prctl.h


def ends_with_parent() -> Callable[[], None]:
    """What a child does before it becomes its command: ask to be interrupted when the parent dies (on Linux).

    Linux takes the thread that starts the child for the parent: it must live as long.
    """
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None
    parent = os.getpid()

    def prepare() -> None:
        # A shell's background job ignores SIGINT, and so would its children; this one must hear it.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        if libc:
            libc.prctl(PR_SET_PDEATHSIG, signal.SIGINT)
            if os.getppid() != parent:  # it died before the line above
                os._exit(1)

    return prepare
