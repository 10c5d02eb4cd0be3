"""A Docker engine for the cluster test: the machine's own, or a private stand-in where one can be brought up.

A stand-in reaches no container registry and its containers have no way out, so images are built on the host's network,
from what the machine's pip is configured to read. Where that has no CPU build of the pinned PyTorch, another CPU build
in its wheel folders takes its place: what is tested is the cluster, not PyTorch.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = ROOT.parent / "shared" / "docker"  # install.sh, engine.sh, base-image.sh
FOLDER = Path("/var/tmp/fedhpro-engine")  # short, for the names of sockets; what was downloaded stays there
BASE = "python:3.11-slim-bookworm"
START_SECONDS = 900.0  # of a script: it may install packages


class NoEngine(Exception):
    """What is missing, in a sentence."""


@dataclass(frozen=True)
class Engine:
    """An engine that answers.

    Args:
        environment: of `docker` and `docker compose`.
    """

    environment: Mapping[str, str]

    def docker(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """`docker` with these arguments."""
        command = ["docker", *arguments]
        return subprocess.run(command, env=self.environment, capture_output=True, text=True, stdin=subprocess.DEVNULL)

    @property
    def is_stand_in(self) -> bool:
        """Whether its base image is a stand-in: such an engine needs other builds."""
        label = '{{with .Config.Labels}}{{index . "stand-in"}}{{end}}'
        return bool(self.docker("image", "inspect", "--format", label, BASE).stdout.strip())


@contextmanager
def docker_engine() -> Iterator[Engine]:
    """The machine's engine; else a private one, which is removed afterwards with all that was built.

    Raises:
        NoEngine: there is none, and none can be brought up.
    """
    if answers(os.environ):
        yield Engine(dict(os.environ))
        return
    if not (SCRIPTS / "engine.sh").exists():
        raise NoEngine(f"no Docker engine with Compose answers, and there is no {SCRIPTS} to bring one up with")
    if os.getuid() != 0:
        raise NoEngine("no Docker engine with Compose answers, and only root can bring one up")
    FOLDER.mkdir(exist_ok=True)
    with (FOLDER / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two tests at a time would remove each other's engine
        try:
            script("install.sh")
            exports = re.findall(r"^export (\w+)=(.*)$", script("engine.sh", "start"), flags=re.M)
            engine = Engine({**os.environ, **{name: shlex.split(value)[0] for name, value in exports}})
            script("base-image.sh", environment={**engine.environment, "WHEELS": "1"})
            yield engine
        finally:
            subprocess.run([SCRIPTS / "engine.sh", "wipe", FOLDER], capture_output=True, stdin=subprocess.DEVNULL)


def answers(environment: Mapping[str, str]) -> bool:
    """Whether an engine and Compose can be had with this environment."""
    if shutil.which("docker") is None:
        return False
    wanted = (["docker", "info"], ["docker", "compose", "version"])
    return not any(subprocess.run(command, env=environment, capture_output=True).returncode for command in wanted)


def script(name: str, *verbs: str, environment: Mapping[str, str] | None = None) -> str:
    """Run one of the scripts on FOLDER; returns what it printed.

    Raises:
        NoEngine: it failed.
    """
    done = subprocess.run(
        [SCRIPTS / name, *verbs, FOLDER],
        env=environment, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=START_SECONDS,
    )  # fmt: skip
    if done.returncode:
        raise NoEngine(f"no Docker engine could be brought up: {name} says: {done.stderr.strip()[-300:]}")
    return done.stdout


def stand_in_build(folder: Path) -> dict[str, Any]:
    """The `build:` of a service on a stand-in engine, to be merged with that of compose.yml.

    Args:
        folder: for a build context with another PyTorch, should there be need of one.
    """
    build: dict[str, Any] = {"network": "host", "args": {"TORCH_INDEX": ""}}
    if not (version := local_cpu_torch()):
        return build
    (folder / "docker").mkdir(parents=True)
    shutil.copy(ROOT / "docker" / "superlink.sh", folder / "docker")
    pinned = (ROOT / "constraints.txt").read_text()
    pinned = re.sub(r"^torch==.*$", f"torch=={version}", pinned, flags=re.M)
    (folder / "constraints.txt").write_text(re.sub(r"^torchvision==.*\n", "", pinned, flags=re.M))
    project = (ROOT / "pyproject.toml").read_text()
    project = re.sub(r'^  "torch>=.*$', '  "torch",', project, flags=re.M)
    # torchvision belongs to one PyTorch; neither digits nor MNIST need it.
    (folder / "pyproject.toml").write_text(re.sub(r'^  "torchvision>=.*\n', "", project, flags=re.M))
    return {**build, "context": str(folder), "dockerfile": str(ROOT / "docker" / "Dockerfile")}


def local_cpu_torch() -> str:
    """The version of a CPU build of PyTorch in the wheel folders that pip is configured with; "" if there is none."""
    dry_run = ["--dry-run", "--quiet", "--no-index", "--no-deps", "--ignore-installed", "--report", "-"]
    command = [sys.executable, "-m", "pip", "install", *dry_run, "torch"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        return ""
    version = str(json.loads(done.stdout)["install"][0]["metadata"]["version"])
    return version if version.endswith("+cpu") else ""
