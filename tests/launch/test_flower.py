"""Flower's commands as processes: where and under what they run, and what is read of their answers."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from fedhpro_flwr.launch import flower
from fedhpro_flwr.launch.flower import Flower, LaunchError, UnreachableError, environment, reason, tool

Says = Callable[[str], Flower]


@pytest.fixture
def says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Says:
    """Flower whose command is this shell script."""

    def make(script: str) -> Flower:
        command = tmp_path / "flwr"
        command.write_text(f"#!/bin/sh\n{script}\n")
        command.chmod(0o755)
        monkeypatch.setattr(flower, "tool", lambda name: str(tmp_path / name))
        (tmp_path / "scratch").mkdir()
        return Flower(tmp_path / "home", "theirs", tmp_path / "scratch")

    return make


def test_a_command_is_asked_for_json_in_the_scratch_folder(says: Says) -> None:
    asked = says('cat; echo "{\\"words\\": \\"$*\\", \\"at\\": \\"$PWD\\", \\"home\\": \\"$FLWR_HOME\\"}"; echo no >&2')
    assert asked.answer("ls", "theirs", "--run-id", "7") == {
        "words": "ls theirs --run-id 7 --format json",
        "at": str(asked.scratch),
        "home": str(asked.home),
    }


def test_ctrl_c_in_the_terminal_does_not_reach_a_command_and_its_words_are_read_whatever_they_are(says: Says) -> None:
    with says("echo '\u00e9'; printf '\\377\\n'; echo gone >&2; exit 3").process(
        "log", stderr=subprocess.PIPE
    ) as process:
        assert os.getsid(process.pid) == process.pid
        assert process.communicate() == ("\u00e9\n\ufffd\n", "gone\n")
    assert process.returncode == 3


def test_an_interrupted_question_ends_its_command(says: Says, monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[subprocess.Popen[str]] = []

    def interrupted(process: subprocess.Popen[str]) -> None:
        begun.append(process)
        raise KeyboardInterrupt

    monkeypatch.setattr(subprocess.Popen, "communicate", interrupted)
    with pytest.raises(KeyboardInterrupt):
        says("exec sleep 60").answer("ls")
    assert [process.returncode for process in begun] == [-signal.SIGKILL]


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("echo 'first\n\n  second'; echo third >&2", "first second third"),
        ("printf 'a%.0s' $(seq 399); printf 'bc'", "a" * 398 + "bc"),
        ("exit 0", "nothing, and ended with status 0"),
        ("exit 1", "nothing, and ended with status 1"),
        ("kill -9 $$", "nothing, and ended with signal 9"),
        ("echo '[1]'", "[1]"),
        ("echo '\"abc\"'", '"abc"'),
    ],
)
def test_an_answer_that_is_no_json_object_is_told_by_its_end(script: str, said: str, says: Says) -> None:
    with pytest.raises(LaunchError) as raised:
        says(script).answer("stop", "7")
    assert type(raised.value) is LaunchError and str(raised.value) == f"`flwr stop` answered: {said}"


def test_a_superlink_that_is_away_is_told_from_other_refusals(says: Says) -> None:
    away = {"success": False, "error-message": "Using: x\n\nConnection to the SuperLink is unavailable. Please"}
    asked = says("cat answer.json")
    (asked.scratch / "answer.json").write_text(json.dumps(away))
    with pytest.raises(UnreachableError, match=r"^the SuperLink does not answer$"):
        asked.answer("ls")
    refused = away | {"error-message": "Using: x\n\n[code: 9]  No,\nnever."}
    (asked.scratch / "answer.json").write_text(json.dumps(refused))
    assert asked.answer("ls") == refused
    assert reason(refused) == "[code: 9] No, never."
    assert reason({"success": False}) == "{'success': False}"


def test_what_flower_runs_under(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "/their/apps")
    monkeypatch.setenv("FLWR_TELEMETRY_ENABLED", "1")
    monkeypatch.setenv("THEIRS", "kept")
    monkeypatch.setenv("PATH", "/usr/bin")
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)
    env = environment(tmp_path)
    assert "PYTHONPATH" not in env
    assert {name: env[name] for name in ("FLWR_HOME", "PYTHONUNBUFFERED", "THEIRS", "PATH")} == {
        "FLWR_HOME": str(tmp_path),
        "PYTHONUNBUFFERED": "1",
        "THEIRS": "kept",
        "PATH": f"{Path(sys.executable).parent}:/usr/bin",
    }
    assert {name: env[name] for name in flower.QUIET} == {
        "FLWR_TELEMETRY_ENABLED": "0",
        "FLWR_DISABLE_UPDATE_CHECK": "1",
        "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    }
    monkeypatch.delenv("PYTHONPATH")
    monkeypatch.delenv("PATH")
    assert environment(tmp_path)["PATH"].strip(":") == str(Path(sys.executable).parent)


def test_a_command_beside_this_python_goes_before_the_path_s(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder in ("beside", "path"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "flwr").touch(mode=0o755)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "beside" / "python"))
    monkeypatch.setenv("PATH", str(tmp_path / "path"))
    assert tool("flwr") == str(tmp_path / "beside" / "flwr")
    (tmp_path / "beside" / "flwr").unlink()
    assert tool("flwr") == str(tmp_path / "path" / "flwr")
    (tmp_path / "path" / "flwr").unlink()
    with pytest.raises(LaunchError, match=r"flwr is not installed; `pip install 'flwr\[simulation\]'` brings it$"):
        tool("flwr")
