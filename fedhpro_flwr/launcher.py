"""`flwr run` the robust way: a private SuperLink for one simulated run, stopped with it, and a truthful exit status.

Plain `flwr run` talks to whatever SuperLink answers on its port, with that one's directory, environment and code path,
installs the app's dependencies before each run, and exits 0 when the run failed. Here the SuperLink is started for this
run, in an empty directory of its own (a foreign `client_app` in its working directory would be imported by Ray's
workers), and asked afterwards how the run ended.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import tomli_w

from fedhpro_flwr.config import Scalar

START_TIMEOUT = 90.0  # seconds for the SuperLink to answer, and for a submitted run to leave "pending"
POLL_SECONDS = 0.2
STATUS_SECONDS = 15.0  # `flwr ls` is a process that takes seconds of a core: the end of the log stream tells sooner
QUIET = {
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",  # counts in the SuperLink's environment only
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # or Ray warns of it in every run
}


class LaunchError(RuntimeError):
    """The run could not be started, or ended badly; the message says why and where the log lies."""


def simulate(settings: Mapping[str, Scalar], *, num_nodes: int, log_file: Path, gpus: float = 0.0) -> None:
    """Run the app in Flower's simulation engine and wait for its end.

    Args:
        settings: the complete run config.
        num_nodes: simulated SuperNodes.
        log_file: receives everything Flower, Ray and the apps print.
        gpus: share of a GPU for each client process; 0 keeps them on the CPU.

    Raises:
        LaunchError: with the reason.
    """
    home = Path(tempfile.mkdtemp(prefix="fedhpro-"))
    finished = False
    try:
        with PrivateSuperLink(home, log_file) as superlink:
            run_id = superlink.submit(settings, num_nodes, gpus)
            superlink.wait(run_id)
            finished = True
    finally:
        if finished:
            shutil.rmtree(home, ignore_errors=True)


class PrivateSuperLink:
    """A SuperLink of one's own, with its own FLWR_HOME, port and working directory."""

    def __init__(self, home: Path, log_file: Path) -> None:
        self.home, self.log_file = home, log_file
        self.cwd = home / "cwd"
        self.env = {**os.environ, **QUIET, "FLWR_HOME": str(home)}
        self.env.pop("PYTHONPATH", None)  # a foreign app on it would shadow this one
        # The SuperLink starts its own helpers by name, so this environment's commands must be on the path.
        self.env["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), self.env.get("PATH", "")])

    def __enter__(self) -> PrivateSuperLink:
        self.cwd.mkdir()
        port = free_port()
        connection = {
            "superlink": {"default": "private", "private": {"address": f"127.0.0.1:{port}", "insecure": True}}
        }
        (self.home / "config.toml").write_text(tomli_w.dumps(connection))
        command = [tool("flower-superlink"), "--insecure", "--simulation", "--host", "127.0.0.1", "--port", str(port)]
        with self.log_file.open("ab") as log:
            # A session of its own: Ctrl-C reaches this process alone, which then stops the whole group in order.
            self.process = subprocess.Popen(
                command,
                cwd=self.cwd,
                env=self.env,
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        self._wait_until(lambda: accepts(port), "the SuperLink did not start")
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(10)
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)  # Ray's workers outlive a SuperLink that ended badly

    def submit(self, settings: Mapping[str, Scalar], num_nodes: int, gpus: float) -> str:
        """Submit the app; returns the run's id."""
        config = self.home / "run.toml"
        config.write_text(tomli_w.dumps(dict(settings)))
        engine = f"num-supernodes={num_nodes} client-resources-num-cpus=1 client-resources-num-gpus={gpus}"
        answer = self._flwr(
            "run", str(app_folder(self.home)), "private", "--run-config", str(config), "--federation-config", engine
        )
        if "run-id" not in answer:
            raise LaunchError(
                f"Flower did not take the run: {answer.get('error-message', answer)} (log: {self.log_file})"
            )
        return str(answer["run-id"])

    def wait(self, run_id: str) -> None:
        """Wait for the end of a run; `flwr log` goes into the log file meanwhile."""
        started = asked = time.monotonic()
        with self.log_file.open("ab") as log:
            stream = subprocess.Popen(
                [tool("flwr"), "log", run_id, "private", "--stream"],
                cwd=self.cwd, env=self.env, stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
            )  # fmt: skip
            try:
                while True:
                    if self.process.poll() is not None:
                        raise LaunchError(
                            f"the SuperLink died with status {self.process.returncode}, see {self.log_file}"
                        )
                    if time.monotonic() - asked > STATUS_SECONDS or stream.poll() is not None:
                        asked = time.monotonic()
                        run = self._flwr("ls", "private", "--run-id", run_id)["runs"][0]
                        if run["status"].startswith("finished"):
                            break
                        if run["status"] == "pending" and asked - started > START_TIMEOUT:
                            raise LaunchError(
                                f"the run is still pending after {START_TIMEOUT:.0f} s, see {self.log_file}"
                            )
                    time.sleep(POLL_SECONDS)
            finally:
                stream.terminate()
                stream.wait(10)
        if run["status"] != "finished:completed":
            raise LaunchError(f"{run['status']}: {run.get('status-details', 'no details')} (log: {self.log_file})")

    def _flwr(self, *arguments: str) -> dict[str, Any]:
        done = subprocess.run(
            [tool("flwr"), *arguments, "--format", "json"],
            cwd=self.cwd,
            env=self.env,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
        )
        try:
            return dict(json.loads(done.stdout))
        except (json.JSONDecodeError, TypeError):
            said = " ".join((done.stdout + done.stderr).split())
            raise LaunchError(f"`flwr {arguments[0]}` answered: {said[-400:]} (log: {self.log_file})") from None

    def _wait_until(self, ready: Callable[[], bool], problem: str) -> None:
        deadline = time.monotonic() + START_TIMEOUT
        while not ready():
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.__exit__()
                raise LaunchError(f"{problem} (log: {self.log_file})")
            time.sleep(POLL_SECONDS)


def app_folder(scratch: Path) -> Path:
    """The folder to hand to `flwr run`: the checkout, or for an installed wheel a copy with its pyproject.toml."""
    root = Path(__file__).resolve().parents[1]
    if (root / "pyproject.toml").exists():
        return root
    staged = scratch / "fedhpro-flwr"
    for package in ("fedhpro_flwr", "server_app", "client_app"):
        shutil.copytree(root / package, staged / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(root / "fedhpro_flwr" / "app" / "pyproject.toml", staged)
    shutil.copytree(root / "fedhpro_flwr" / "conf", staged / "conf")
    return staged


def tool(name: str) -> str:
    """A command of this Python's own environment, whether or not that is on the PATH.

    Raises:
        LaunchError: it is not installed.
    """
    beside = Path(sys.executable).with_name(name)
    found = str(beside) if beside.exists() else shutil.which(name)
    if found is None:
        raise LaunchError(f"the command {name} is not installed; `pip install 'flwr[simulation]'` brings it")
    return found


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
