"""Children that do not outlive their parent, and a folder that only one parent and its children work in."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from fedhpro_flwr.file_lock import locked_file
from fedhpro_flwr.launch.parent_death import ends_with_parent

LOCK_FILE, LOG_FILE = ".lock", "run.log"
LOCK_SECONDS = 20.0  # time for a killed parent's children to notice and end
STOP_SECONDS = 20.0  # time for a child to end in order, with a simulation engine under it


@contextmanager
def locked(folder: Path, seconds: float = LOCK_SECONDS) -> Iterator[int]:
    """A lock on a folder, as a file descriptor for children to inherit: it is held until the last of them has ended.

    So if the parent is killed, the folder stays locked exactly as long as one of its children still writes there.

    Raises:
        ConfigError: somebody else still holds it after `seconds`, or the file system has no locks.
    """
    folder.mkdir(parents=True, exist_ok=True)
    refusal = (
        f"another comparison, or a run that a killed one left behind, still works in {folder}; "
        "wait for it or name another --folder"
    )
    with locked_file(folder / LOCK_FILE, seconds, refusal, "name a --folder elsewhere") as file:
        yield file.fileno()


def start_child(command: Sequence[str], environment: Mapping[str, str], lock: int) -> subprocess.Popen[str]:
    """Start a child with pipes in a session of its own: Ctrl-C reaches only the parent, which then stops it in order.

    It must be started from a thread that lives as long as the parent: see `ends_with_parent`.
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
        preexec_fn=ends_with_parent(),
    )


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
    """Interrupt all, so that each stops its simulation engine if it has one; wait, and kill what has not ended."""
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
