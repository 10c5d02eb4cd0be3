"""A Flower cluster of real processes on this machine: a SuperLink, SuperNodes, runs, and what can befall them.

with Cluster(tmp_path) as cluster:
    cluster.superlink()
    nodes = [cluster.supernode(partition) for partition in range(3)]
    run_id = cluster.submit(settings)
    nodes[1].kill()
    assert cluster.wait(run_id) == 0, cluster.logs()
"""

from __future__ import annotations

import json
import subprocess
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tomli_w
from member import COLOURS, MARK, NODE_ID, POLL_SECONDS, Member

from fedhpro_flwr.config import Scalar
from fedhpro_flwr.launch.flower import environment, tool
from fedhpro_flwr.launch.private_superlink import accepts, free_port
from fedhpro_flwr.launch.submitted_run import app_folder

CONNECTION = "cluster"  # the name of the SuperLink in Flower's config.toml
START_SECONDS = 120.0
STATUS_SECONDS = 8.0  # `flwr ls` is a process that takes seconds of a core, which the nodes need
LAST_LINES = 60  # of each log in `logs`


@dataclass(frozen=True)
class TLS:
    """Where the certificates lie; node keys are given to each SuperNode."""

    ca: Path
    certificate: Path
    key: Path


@dataclass
class Cluster:
    """One SuperLink, its SuperNodes, and the commands that talk to them.

    Args:
        folder: for logs, Flower's own files and the databases; a temporary one.
        tls: certificates; None speaks plain HTTP.
        auth: whether the SuperLink lets in registered SuperNodes only; needs `tls`.
        environment: added to that of every process.
    """

    folder: Path
    tls: TLS | None = None
    auth: bool = False
    environment: Mapping[str, str] = field(default_factory=dict)
    members: list[Member] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        self.env = {**environment(self.folder), **self.environment}
        for name in ("cwd", "logs"):
            (self.folder / name).mkdir(exist_ok=True)
        security: dict[str, Any] = {"root-certificates": str(self.tls.ca)} if self.tls else {"insecure": True}
        connection = {"default": CONNECTION, CONNECTION: {"address": self.address, **security}}
        (self.folder / "config.toml").write_text(tomli_w.dumps({"superlink": connection}))

    def __enter__(self) -> Cluster:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def address(self) -> str:
        """Of the SuperLink."""
        return f"127.0.0.1:{self.port}"

    def close(self) -> None:
        """Nothing of the cluster runs any more."""
        for member in reversed(self.members):
            member.go_on()
            member.kill()

    def superlink(self, *arguments: str, database: Path | None = None) -> Member:
        """Start the SuperLink, or start it again on the same port, and wait until it answers.

        Args:
            arguments: more of `flower-superlink`'s own.
            database: where it keeps its state; None keeps it in memory.
        """
        security: list[str | Path] = ["--insecure"]
        if self.tls:
            security = ["--ssl-ca-certfile", self.tls.ca, "--ssl-certfile", self.tls.certificate]
            security += ["--ssl-keyfile", self.tls.key, *(["--enable-supernode-auth"] if self.auth else [])]
        kept = ["--database", database] if database else []
        member = self._start(
            "superlink", "flower-superlink", "--host", "127.0.0.1", "--port", self.port, *security, *kept, *arguments
        )
        self._until(lambda: accepts(self.port), f"{member.name} did not start", member)
        return member

    def supernode(
        self, partition: int | None = None, *arguments: str, key: Path | None = None, **node_config: Scalar
    ) -> Member:
        """Start a SuperNode and wait until the SuperLink has given it an id.

        Args:
            partition: its partition-id; None gives it none.
            arguments: more of `flower-supernode`'s own.
            key: its private key, where the SuperLink asks for one.
            node_config: more of its node config; underscores stand for hyphens.
        """
        told: dict[str, Scalar] = {} if partition is None else {"partition-id": partition}
        told |= {name.replace("_", "-"): value for name, value in node_config.items()}
        chosen = ["--node-config", " ".join(f"{name}={json.dumps(value)}" for name, value in told.items())]
        security: list[str | Path] = ["--root-certificates", self.tls.ca] if self.tls else ["--insecure"]
        security += ["--auth-supernode-private-key", key] if key else []
        name = "supernode" if partition is None else f"supernode-{partition}"
        member = self._start(
            name, "flower-supernode", "--superlink", self.address, "--host", "127.0.0.1", "--port", free_port(),
            *security, *(chosen if told else []), *arguments,
        )  # fmt: skip
        self._until(lambda: NODE_ID.search(member.log()), f"{member.name} did not start", member)
        return member

    def register(self, public_key: Path) -> None:
        """Let in the SuperNode with this key."""
        self.flwr("supernode", "register", str(public_key), CONNECTION)

    def submit(self, settings: Mapping[str, Scalar]) -> str:
        """Hand a run to the SuperLink; returns its id.

        Args:
            settings: the complete run config.
        """
        config = self.folder / f"run-{uuid.uuid4().hex[:8]}.toml"
        config.write_text(tomli_w.dumps(dict(settings)))
        answer = self.flwr("run", str(app_folder(self.folder)), CONNECTION, "--run-config", str(config))
        assert "run-id" in answer, answer
        return str(answer["run-id"])

    def status(self, run_id: str) -> str:
        """As Flower says it: pending, running, finished:completed, finished:failed, ..."""
        return str(self.flwr("ls", CONNECTION, "--run-id", run_id)["runs"][0]["status"])

    def wait(self, run_id: str, seconds: float = 300.0) -> int:
        """The exit status of a run: 0 if it was completed, 1 if it failed or was stopped.

        Raises:
            AssertionError: it did not end in time.
        """
        deadline = time.monotonic() + seconds
        while not (status := self.status(run_id)).startswith("finished"):
            assert time.monotonic() < deadline, f"still {status} after {seconds:.0f} s\n{self.logs()}"
            time.sleep(STATUS_SECONDS)
        self.keep_log(run_id)
        return 0 if status == "finished:completed" else 1

    def keep_log(self, run_id: str) -> str:
        """What the ServerApp has said so far; `logs` shows the end of it too."""
        done = subprocess.run(
            [tool("flwr"), "log", run_id, CONNECTION, "--show"],
            cwd=self.folder / "cwd", env=self.env, capture_output=True, text=True, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        said = COLOURS.sub("", done.stdout + done.stderr)
        (self.folder / "logs" / f"run-{run_id}.log").write_text(said)
        return said

    def run(self, settings: Mapping[str, Scalar], seconds: float = 300.0) -> int:
        """Submit a run and wait for its end; returns its exit status."""
        return self.wait(self.submit(settings), seconds)

    def flwr(self, *arguments: str) -> dict[str, Any]:
        """A command of Flower's; returns what it answered.

        Raises:
            AssertionError: it answered no JSON.
        """
        done = subprocess.run(
            [tool("flwr"), *arguments, "--format", "json"],
            cwd=self.folder / "cwd", env=self.env, capture_output=True, text=True, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            return dict(json.loads(done.stdout))
        except (json.JSONDecodeError, TypeError):
            raise AssertionError(f"flwr {' '.join(arguments)}: {done.stdout}{done.stderr}\n{self.logs()}") from None

    def logs(self) -> str:
        """The end of every log, for an assertion that fails."""
        files = sorted((self.folder / "logs").glob("*.log"))
        said = {file.name: COLOURS.sub("", file.read_text(errors="replace")) for file in files}
        lines = {name: text.splitlines()[-LAST_LINES:] for name, text in said.items()}
        return "\n".join(f"== {name}\n" + "\n".join(last) for name, last in lines.items())

    def _start(self, name: str, command: str, *arguments: object) -> Member:
        log_file = self.folder / "logs" / f"{len(self.members)}-{name}.log"
        mark = f"{name}-{uuid.uuid4().hex}"
        with log_file.open("ab") as log:
            process = subprocess.Popen(
                [tool(command), *map(str, arguments)],
                cwd=self.folder / "cwd", env={**self.env, MARK: mark}, stdout=log, stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL, start_new_session=True,
            )  # fmt: skip
        member = Member(name, mark, log_file, process)
        self.members.append(member)
        return member

    def _until(self, ready: Callable[[], object], problem: str, member: Member) -> None:
        deadline = time.monotonic() + START_SECONDS
        while not ready():
            assert member.process.poll() is None and time.monotonic() < deadline, f"{problem}\n{member.log()}"
            time.sleep(POLL_SECONDS)
