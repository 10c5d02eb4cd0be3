"""A run that is handed to a SuperLink: what is sent, what became of it, its end, and its log."""

from __future__ import annotations

import shutil
import subprocess
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import tomli_w

from fedhpro_flwr.config import Scalar
from fedhpro_flwr.launch.flower import Flower, LaunchError, UnreachableError, reason
from fedhpro_flwr.launch.log_stream import LogStream

PACKAGES = ("fedhpro_flwr", "server_app", "client_app")
UNKNOWN_RUN = "Run ID not found"  # in Flower's message
LOST = "lost"
# What Flower says of a ServerApp that ended without a word, or that was stopped because its SuperLink had gone.
LOST_DETAILS = ("No heartbeat received from the task", "Task failed with unknown error.")
APP_FAILED = "ServerApp failed with exception: "


@dataclass(frozen=True)
class Status:
    """A run's state, as the SuperLink knows it."""

    state: str  # pending, starting, running, finished:completed, finished:failed, finished:stopped; or LOST
    details: str = ""

    @property
    def finished(self) -> bool:
        """Nothing plays it any more."""
        return self.state.startswith("finished") or self.state == LOST

    @property
    def completed(self) -> bool:
        """It ended well."""
        return self.state == "finished:completed"

    @property
    def lost(self) -> bool:
        """Its ServerApp or its SuperLink went away: the app did not fail, and nobody stopped the run."""
        return self.state == LOST or (self.state == "finished:failed" and self.details in LOST_DETAILS)

    @property
    def sentence(self) -> str:
        """Why it did not complete: the app's own sentence if it has one."""
        if self.details.startswith(APP_FAILED):
            return self.details.removeprefix(APP_FAILED)
        return f"{self.state}: {self.details or 'no details'}"


@dataclass(frozen=True)
class SubmittedRun:
    """A run by its id."""

    flower: Flower
    run_id: str

    def status(self) -> Status:
        """What became of it.

        Raises:
            UnreachableError: the SuperLink does not answer, or not now.
        """
        try:
            answer = self.flower.answer("ls", self.flower.connection, "--run-id", self.run_id)
        except UnreachableError:
            raise
        except LaunchError as error:  # for example the command was killed, which says nothing about the run
            raise UnreachableError(f"the SuperLink does not say what became of the run: {error}") from None
        if "runs" in answer:
            run = answer["runs"][0]
            return Status(str(run["status"]), str(run.get("status-details") or ""))
        if UNKNOWN_RUN in str(answer):
            return Status(LOST, "the SuperLink does not know the run, its database is another")
        raise UnreachableError(f"the SuperLink does not say what became of the run: {reason(answer)}")

    def stop(self) -> None:
        """End the run.

        Raises:
            LaunchError: the SuperLink did not end it.
        """
        answer = self.flower.answer("stop", self.run_id, self.flower.connection)
        if not answer.get("success"):
            raise LaunchError(reason(answer))

    def log(self, say: Callable[[str], None]) -> LogStream:
        """What the ServerApp says, from the beginning on, handed on line by line."""
        command = ("log", self.run_id, self.flower.connection, "--stream")
        # `flwr ls` explains errors better than its stderr, and a pipe that nobody reads would fill up and block it.
        return LogStream(lambda: self.flower.process(*command, stderr=subprocess.DEVNULL), say)


def submit(flower: Flower, settings: Mapping[str, Scalar], engine: str = "") -> SubmittedRun:
    """Hand the app to the SuperLink.

    Args:
        flower: speaks with the SuperLink.
        settings: the complete run config.
        engine: Flower's federation config, for a simulation.

    Raises:
        UnreachableError: no SuperLink answers.
        LaunchError: it did not take the run.
    """
    config = flower.scratch / f"run-{uuid.uuid4().hex[:8]}.toml"
    config.write_text(tomli_w.dumps(dict(settings)), encoding="utf-8")
    chosen = ["--federation-config", engine] if engine else []
    answer = flower.answer(
        "run", str(app_folder(flower.scratch)), flower.connection, "--run-config", str(config), *chosen
    )
    if "run-id" not in answer:
        raise LaunchError(f"Flower did not take the run: {reason(answer)}")
    return SubmittedRun(flower, str(answer["run-id"]))


def app_folder(scratch: Path) -> Path:
    """What `flwr run` packs and sends: packages, experiments and pyproject.toml, copied to `scratch` at the first call.

    A run that is submitted again hours later must run the code it was begun with, though the checkout has moved on;
    and an installed wheel has its pyproject.toml and experiments in another place.
    """
    staged = scratch / "fedhpro-flwr"
    if not staged.exists():
        root = Path(__file__).resolve().parents[2]
        checkout = (root / "pyproject.toml").exists()
        for package in PACKAGES:
            shutil.copytree(root / package, staged / package, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy((root if checkout else root / "fedhpro_flwr" / "app") / "pyproject.toml", staged)
        shutil.copytree((root if checkout else root / "fedhpro_flwr") / "conf", staged / "conf")
    return staged
