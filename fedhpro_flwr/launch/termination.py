"""SIGTERM, which service managers and batch systems send, as an end in order: by itself Python dies where it stands."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from threading import current_thread, main_thread
from types import FrameType

TERMINATED = 143  # as shells say of it: 128 + SIGTERM


@contextmanager
def in_order() -> Iterator[None]:
    """Inside, the first SIGTERM raises SystemExit with status 143, and further ones do not disturb the end.

    Left alone is a process that handles or ignores it already. So are threads other than the main one, which may not.
    """
    if current_thread() is not main_thread() or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, _end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _end(number: int, frame: FrameType | None) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sys.exit(TERMINATED)
