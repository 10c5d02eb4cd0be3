"""A child that is interrupted when its parent dies in any way, even by kill -9, which the parent cannot react to."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Callable

PR_SET_PDEATHSIG = 1  # of linux/prctl.h


def ends_with_parent() -> Callable[[], None]:
    """A function for `preexec_fn`, by which a child asks to be interrupted when its parent dies (on Linux).

    For Linux the parent is the thread that starts the child, so that thread must live as long as the child.
    """
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None
    parent = os.getpid()

    def prepare() -> None:
        # A shell's background job ignores SIGINT, and so would its children; this one must hear it.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        if libc:
            libc.prctl(PR_SET_PDEATHSIG, signal.SIGINT)
            if os.getppid() != parent:  # the parent died before the line above
                os._exit(1)

    return prepare
