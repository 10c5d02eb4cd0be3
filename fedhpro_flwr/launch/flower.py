"""Runs Flower's own commands as processes and reads their answers, or why there is none."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

QUIET = {
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",  # counts in the SuperLink's environment only
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # or Ray warns of it in every run
}
UNREACHABLE = "Connection to the SuperLink is unavailable"  # in Flower's message
LAST_CHARACTERS = 400  # of an answer that is no JSON


class LaunchError(RuntimeError):
    """The run could not be started, or ended badly; the message says why."""


class UnreachableError(LaunchError):
    """No SuperLink answers now; it may later."""


@dataclass(frozen=True)
class Flower:
    """`flwr`, speaking with one SuperLink.

    Args:
        home: the folder with Flower's config.toml.
        connection: the SuperLink's name in it.
        scratch: an empty folder of the caller's: the commands' working directory, and where the app is staged.
    """

    home: Path
    connection: str
    scratch: Path

    def answer(self, command: str, *arguments: str) -> dict[str, Any]:
        """What a command answered; if it failed, the answer has an "error-message".

        Raises:
            UnreachableError: no SuperLink answers.
            LaunchError: the answer is no JSON.
        """
        with self.process(command, *arguments, "--format", "json") as process:
            try:
                out, errors = process.communicate()
            except BaseException:  # Ctrl-C or SIGTERM, which do not reach the command
                process.kill()
                raise
        try:
            answer = dict(json.loads(out))
        except (ValueError, TypeError):  # no JSON, or no object
            said = " ".join((out + errors).split())[-LAST_CHARACTERS:] or f"nothing, and ended with {ended(process)}"
            raise LaunchError(f"`flwr {command}` answered: {said}") from None
        if UNREACHABLE in str(answer.get("error-message", "")):
            raise UnreachableError("the SuperLink does not answer")
        return answer

    def process(self, command: str, *arguments: str, stderr: int = subprocess.PIPE) -> subprocess.Popen[str]:
        """Start a command. Ctrl-C does not reach it, because what it began must be ended in order."""
        return subprocess.Popen(
            [tool("flwr"), command, *arguments],
            cwd=self.scratch,
            env=environment(self.home),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            errors="replace",
            start_new_session=True,
        )


def ended(process: subprocess.Popen[str]) -> str:
    """How a process ended, for a sentence."""
    status = process.returncode
    return f"signal {-status}" if status < 0 else f"status {status}"


def reason(answer: dict[str, Any]) -> str:
    """Why a command failed, without what Flower says before that: which SuperLink it uses, and what it is doing."""
    said = str(answer.get("error-message", answer))
    return " ".join(said.rpartition("\n\n")[2].split())


def environment(home: Path) -> dict[str, str]:
    """The environment of Flower's processes: this one's, quiet, with Flower's files in `home`."""
    env = {**os.environ, **QUIET, "FLWR_HOME": str(home), "PYTHONUNBUFFERED": "1"}
    env.pop("PYTHONPATH", None)  # a foreign app on it would shadow this one
    env.pop("PYTHONOPTIMIZE", None)  # Ray does not start without docstrings
    # Flower starts its own helpers by name, so this environment's commands must be on the path.
    env["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), env.get("PATH", "")])
    return env


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
