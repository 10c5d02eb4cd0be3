"""The cluster of docker/ under another name and port, so that one that a user runs beside it is left alone."""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tomli_w
from docker_engine import ROOT, Engine, stand_in_build

from fedhpro_flwr.config import Scalar
from fedhpro_flwr.launch.flower import QUIET, tool
from fedhpro_flwr.launch.private_superlink import free_port
from fedhpro_flwr.runs.run_folder import read_rounds

DOCKER = ROOT / "docker"
CONNECTION = "local-docker"
SUPERNODES = ("supernode-0", "supernode-1", "supernode-2")
COLOURS = re.compile(r"\x1b\[[0-9;]*m")
UP_SECONDS, BUILD_SECONDS = 300.0, 1800.0
STATUS_SECONDS = 8.0  # `flwr ls` is a process that takes seconds of a core, which the nodes need
LAST_LINES = "60"  # of each container in `said`


@dataclass
class ComposeCluster:
    """Compose on the files of docker/, and `flwr` from this machine.

    Args:
        engine: where it runs.
        folder: an empty one, for results, Flower's own files and what is particular to this test.
        data: FEDHPRO_DATA_DIR of the containers.
    """

    engine: Engine
    folder: Path
    data: Path
    overlays: tuple[str, ...] = ()
    port: int = field(default_factory=free_port)

    def __post_init__(self) -> None:
        self.project = f"fedhpro-test-{os.getpid()}"
        self.results, self.certificates, home = (self.folder / name for name in ("results", "certificates", "flwr"))
        for path in (self.results, home):
            path.mkdir()
        self.user = (os.getuid(), os.getgid()) if os.getuid() else (1000, 1000)  # no container runs as root
        self.give_to_user(self.results)
        self.env = {
            **self.engine.environment,
            **QUIET,
            "FEDHPRO_USER": "{}:{}".format(*self.user),
            "FEDHPRO_RESULTS": str(self.results),
            "FEDHPRO_CERTIFICATES": str(self.certificates),
            "FEDHPRO_DATA_DIR": str(self.data),
            "FEDHPRO_PORT": str(self.port),
            "FLWR_HOME": str(home),
        }
        services: dict[str, Any] = {"superlink": {"image": f"{self.project}-superlink"}}
        services |= {name: {"image": f"{self.project}-supernode"} for name in SUPERNODES}
        if self.engine.is_stand_in:
            build = stand_in_build(self.folder / "build")
            services = {name: service | {"build": build} for name, service in services.items()}
        self.override = self.folder / "compose.test.json"
        self.override.write_text(json.dumps({"services": services}))
        self.connect(insecure=True)

    def give_to_user(self, path: Path) -> None:
        """The user of the containers owns this folder and what is in it."""
        for each in (path, *path.rglob("*")):
            os.chown(each, *self.user)

    def connect(self, **security: Scalar) -> None:
        """Write Flower's config.toml, as docker/flwr/config.toml has it but for the port."""
        connection = {"address": f"127.0.0.1:{self.port}", **security}
        content = {"superlink": {"default": CONNECTION, CONNECTION: connection}}
        (Path(self.env["FLWR_HOME"]) / "config.toml").write_text(tomli_w.dumps(content))

    def compose(self, *arguments: str, seconds: float = UP_SECONDS) -> str:
        """`docker compose` with these arguments; returns what it printed.

        Raises:
            AssertionError: it failed.
        """
        files = [DOCKER / "compose.yml", *(DOCKER / name for name in self.overlays), self.override]
        chosen = [word for file in files for word in ("--file", str(file))]
        command = ["docker", "compose", "--project-name", self.project, *chosen, *arguments]
        done = subprocess.run(
            command, env=self.env, capture_output=True, text=True, timeout=seconds, stdin=subprocess.DEVNULL
        )
        assert done.returncode == 0, f"{' '.join(command)}: {done.stdout[-2000:]}{done.stderr[-4000:]}\n{self.said()}"
        return done.stdout

    def settings(self, *overlays: str) -> dict[str, Any]:
        """What Compose reads in the files of docker/ alone.

        Args:
            overlays: beside compose.yml.
        """
        chosen = [word for name in ("compose.yml", *overlays) for word in ("--file", str(DOCKER / name))]
        command = ["docker", "compose", *chosen, "config", "--format", "json"]
        done = subprocess.run(command, env=self.env, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return dict(json.loads(done.stdout))

    def build(self) -> None:
        """Build the images: from nothing that is minutes."""
        self.compose("build", seconds=BUILD_SECONDS)

    def up(self, *services: str) -> None:
        """Start what does not run, and wait until it is healthy."""
        self.compose(
            "up", "--detach", "--wait", "--wait-timeout", f"{UP_SECONDS:.0f}", *services, seconds=2 * UP_SECONDS
        )

    def down(self) -> None:
        """Remove containers, networks, volumes and images."""
        self.compose("down", "--volumes", "--rmi", "all", "--timeout", "3")

    def said(self) -> str:
        """The end of what each container has said."""
        listed = self.engine.docker(
            "ps", "--all", "--quiet", "--filter", f"label=com.docker.compose.project={self.project}"
        )
        logs = {name: self.engine.docker("logs", "--tail", LAST_LINES, name) for name in listed.stdout.split()}
        return "\n".join(f"== {name}\n" + COLOURS.sub("", log.stdout + log.stderr) for name, log in logs.items())

    def container(self, service: str) -> str:
        """Its name."""
        return f"{self.project}-{service}-1"

    def cut(self, service: str) -> None:
        """Off the network: nothing it sends arrives, and nothing reaches it."""
        self._docker("network", "disconnect", f"{self.project}_default", self.container(service))

    def heal(self, service: str) -> None:
        """On the network again."""
        self._docker("network", "connect", "--alias", service, f"{self.project}_default", self.container(service))

    def visits(self, service: str) -> int:
        """How many messages to train its container has received so far; what a killed one had counts too."""
        return self.log(service).count("Receiving: train message")

    def log(self, service: str) -> str:
        """All that its container has said."""
        log = self.engine.docker("logs", self.container(service))
        return COLOURS.sub("", log.stdout + log.stderr)

    def flwr(self, *arguments: str, seconds: float = UP_SECONDS) -> str:
        """A command of Flower's on this machine; returns what it printed.

        Raises:
            AssertionError: it failed.
        """
        done = subprocess.run(
            [tool("flwr"), *arguments],
            cwd=self.folder, env=self.env, capture_output=True, text=True, timeout=seconds, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        said = COLOURS.sub("", done.stdout + done.stderr)
        assert done.returncode == 0, f"flwr {' '.join(arguments)}: {said}\n{self.said()}"
        return said

    def submit(self, settings: Mapping[str, Any]) -> str:
        """Hand a run to the SuperLink; returns its id."""
        conf = self.folder / "run.toml"
        conf.write_text(tomli_w.dumps(settings))
        answer = json.loads(self.flwr("run", str(ROOT), CONNECTION, "--run-config", str(conf), "--format", "json"))
        return str(answer["run-id"])

    def wait(self, run_id: str, seconds: float = 900.0) -> None:
        """Wait for the end of a run.

        Raises:
            AssertionError: it ended badly, or not in time.
        """
        deadline = time.monotonic() + seconds
        while not (status := self.status(run_id)).startswith("finished"):
            assert time.monotonic() < deadline, f"still {status} after {seconds:.0f} s\n{self.said()}"
            time.sleep(STATUS_SECONDS)
        assert status == "finished:completed", f"{status}\n{self.flwr('log', run_id, CONNECTION, '--show')}"

    def status(self, run_id: str) -> str:
        """As Flower says it."""
        return str(json.loads(self.flwr("ls", CONNECTION, "--run-id", run_id, "--format", "json"))["runs"][0]["status"])

    def run_folder(self, experiment: str) -> Path:
        """The one folder of this experiment among the results on this machine."""
        (folder,) = (self.results / experiment).iterdir()
        return folder

    def played(self, experiment: str) -> Sequence[set[int]]:
        """Which clients trained in each finished round."""
        if not list(self.results.glob(f"{experiment}/*")):
            return []
        lines = read_rounds(self.run_folder(experiment))
        return [{int(client["partition-id"]) for client in line["clients"]} for line in lines]

    def _docker(self, *arguments: str) -> None:
        done = self.engine.docker(*arguments)
        assert done.returncode == 0, done.stderr
