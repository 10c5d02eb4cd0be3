"""A SuperLink for one simulated run, stopped with it.

Plain `flwr run` talks to whatever SuperLink answers on its port, which has its own directory, environment and import
path, and installs the app's dependencies before each run. This SuperLink is started for the run, in an empty directory:
a foreign `client_app` in its working directory would be imported by Ray's workers.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from fedhpro_flwr.launch.connections import DIRECT, direct
from fedhpro_flwr.launch.flower import Flower, LaunchError, environment, tool
from fedhpro_flwr.launch.parent_death import ends_with_parent

START_TIMEOUT = 90.0  # seconds for the SuperLink to answer
POLL_SECONDS = 0.2
PROCESSES = Path("/proc")


class PrivateSuperLink:
    """A SuperLink with a FLWR_HOME, port and working directory of its own.

    Args:
        home: a new folder.
        log_file: receives what it prints.
    """

    def __init__(self, home: Path, log_file: Path) -> None:
        self.home, self.log_file = home, log_file
        self.cwd, self.flower = home / "cwd", Flower(home, DIRECT, home / "scratch")

    def __enter__(self) -> Flower:
        self.cwd.mkdir()
        self.flower.scratch.mkdir()
        port = free_port()
        direct(f"127.0.0.1:{port}", self.home, insecure=True)
        command = [tool("flower-superlink"), "--insecure", "--simulation", "--host", "127.0.0.1", "--port", str(port)]
        with self.log_file.open("ab") as log:
            # In a session of its own, so that Ctrl-C reaches only this process, which then stops the group in order.
            self.process = subprocess.Popen(
                command,
                cwd=self.cwd,
                env=environment(self.home),
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
                preexec_fn=ends_with_parent(),
            )
        deadline = time.monotonic() + START_TIMEOUT
        try:
            while not accepts(port):
                if self.process.poll() is not None or time.monotonic() > deadline:
                    raise LaunchError("the SuperLink did not start")
                time.sleep(POLL_SECONDS)
        except BaseException:  # Ctrl-C too, which does not reach the SuperLink itself
            self.__exit__()
            raise
        return self.flower

    def __exit__(self, *_: object) -> None:
        try:
            if self.process.poll() is None:
                self.process.terminate()
                with suppress(subprocess.TimeoutExpired):
                    self.process.wait(10)
        finally:  # also after a second Ctrl-C, which does not wait
            # The simulation, Ray's processes among it, is in a session of its own and outlives its SuperLink.
            for group in {self.process.pid, *groups_with({"FLWR_HOME": str(self.home)})}:
                with suppress(ProcessLookupError):
                    os.killpg(group, signal.SIGKILL)

    def check(self) -> None:
        """Check that the SuperLink still runs.

        Raises:
            LaunchError: it does not.
        """
        if self.process.poll() is not None:
            raise LaunchError(f"the SuperLink died with status {self.process.returncode}")


def free_port() -> int:
    """A TCP port nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def accepts(port: int) -> bool:
    """Whether something listens on a port of this machine."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def groups_with(variables: Mapping[str, str]) -> set[int]:
    """Ids of the process groups, except this process's own, with a process that was started with these variables.

    Once parents have died, they do not lead to their children any more; the environment does.

    Only this user's processes can be seen, and only on Linux: without /proc none is found.
    """
    wanted = {os.fsencode(f"{name}={value}") for name, value in variables.items()}
    found = set()
    for folder in PROCESSES.glob("[0-9]*"):
        with suppress(OSError):  # another user's, or it has just ended
            if wanted <= set((folder / "environ").read_bytes().split(b"\0")):
                found.add(os.getpgid(int(folder.name)))
    return found - {os.getpgrp()}
