"""Turns SIGTERM, sent by service managers and batch systems, and SIGHUP, sent when a terminal closes or a connection
breaks, into an orderly end: by itself Python would die at once, and leave behind what it has started.
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

    A signal that the process handles already, or ignores, as under nohup, is left alone. In other threads than the main
    one this does nothing, because only the main one may handle signals.
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
        if signal.getsignal(each) is _end:
            signal.signal(each, signal.SIG_IGN)
    sys.exit(128 + number)
