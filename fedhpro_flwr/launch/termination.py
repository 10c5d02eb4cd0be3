"""SIGTERM, which service managers and batch systems send, and SIGHUP, of a terminal that closes or a connection that
breaks, as an end in order: by itself Python dies where it stands, and leaves what it has started.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from threading import current_thread, main_thread
from types import FrameType

SIGNALS = (signal.SIGTERM, signal.SIGHUP)


@contextmanager
def in_order() -> Iterator[None]:
    """Inside, the first of `SIGNALS` raises SystemExit with 128 and its number; further ones do not disturb the end.

    Left alone is one that the process handles already, or ignores, as under nohup. So are threads other than the main
    one, which may not.
    """
    if current_thread() is not main_thread():
        yield
        return
    taken = [number for number in SIGNALS if signal.getsignal(number) is signal.SIG_DFL]
    for number in taken:
        signal.signal(number, _end)
    try:
        yield
    finally:
        for number in taken:
            signal.signal(number, signal.SIG_DFL)


def _end(number: int, frame: FrameType | None) -> None:
    for each in SIGNALS:
        signal.signal(each, signal.SIG_IGN)
    sys.exit(128 + number)
