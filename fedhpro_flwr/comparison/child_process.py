"""Children that do not outlive their parent, and a folder that only one parent and its children work in."""

from __future__ import annotations

import ctypes
import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from fedhpro_flwr.config import ConfigError

LOCK_FILE, LOG_FILE = ".lock", "run.log"
LOCK_SECONDS = 20.0  # what a killed parent's children get to notice and end
STOP_SECONDS = 20.0  # what a child gets to end in order, a simulation engine under it included
POLL_SECONDS = 0.2
PR_SET_PDEATHSIG = 1  # of linux/prctl.h


@contextmanager
def locked(folder: Path, seconds: float = LOCK_SECONDS) -> Iterator[int]:
    """A lock on a folder, as a file descriptor for children to inherit: it is held until the last of them has ended.

    So a parent that was killed leaves the folder locked exactly as long as one of its children still writes there.

    Raises:
        ConfigError: somebody else holds it, and still does after so many seconds.
    """
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder / LOCK_FILE, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        deadline = time.monotonic() + seconds
        while not _taken(descriptor):
            if time.monotonic() > deadline:
                raise ConfigError(
                    f"another comparison, or a run that a killed one left behind, still works in {folder}; "
                    "wait for it or name another --folder"
                )
            time.sleep(POLL_SECONDS)
        yield descriptor
    finally:
        os.close(descriptor)


def _taken(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def start_child(command: Sequence[str], environment: Mapping[str, str], lock: int) -> subprocess.Popen[str]:
    """A child with pipes, in a session of its own: Ctrl-C reaches the parent alone, which then stops it in order.

    It must be started from a thread that lives as long as the parent, because Linux takes the thread for the parent.
    """
    return subprocess.Popen(
        command,
        env=dict(environment),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
        pass_fds=(lock,),
        preexec_fn=_ends_with_parent(),
    )


def _ends_with_parent() -> Callable[[], None]:
    """What the child does before it becomes the command: ask to be interrupted when the parent dies (on Linux)."""
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


def end(child: subprocess.Popen[str]) -> None:
    """Let a child that waits for its standard input end by itself."""
    assert child.stdin is not None
    with suppress(BrokenPipeError):
        child.stdin.close()
    try:
        child.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


def stop(children: Sequence[subprocess.Popen[str]]) -> None:
    """Interrupt all, wait, and kill what has not ended: its simulation engine, if any, is stopped by the first."""
    for child in children:
        if child.poll() is None:
            child.send_signal(signal.SIGINT)
    deadline = time.monotonic() + STOP_SECONDS
    for child in children:
        try:
            child.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
