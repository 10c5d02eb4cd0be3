"""What a SuperLink is asked of a run, and what its answers say."""

from __future__ import annotations

import subprocess
import tomllib
from pathlib import Path

import pytest

from fedhpro_flwr.launch import submitted_run
from fedhpro_flwr.launch.flower import LaunchError, UnreachableError
from fedhpro_flwr.launch.submitted_run import LOST, Status, SubmittedRun, submit

NO = {"success": False, "error-message": "Using SuperLink: x\n\n[code: 9] No."}
UNSAID = "the SuperLink does not say what became of the run"


class Asked:
    """Flower with one answer; `words` are those that it was asked with."""

    connection = "theirs"

    def __init__(self, answer, scratch=None):
        self.given, self.scratch, self.words = answer, scratch, []

    def answer(self, *words):
        self.words.append(words)
        if isinstance(self.given, Exception):
            raise self.given
        return self.given


@pytest.mark.parametrize(
    ("status", "finished", "completed", "lost"),
    [
        (Status("pending"), False, False, False),
        (Status("running", "No heartbeat received from the task"), False, False, False),
        (Status("finished:completed"), True, True, False),
        (Status("finished:stopped", "Task failed with unknown error."), True, False, False),
        (Status("finished:failed", "the disk is full"), True, False, False),
        (Status("finished:failed", "No heartbeat received from the task"), True, False, True),
        (Status("finished:failed", "Task failed with unknown error."), True, False, True),
        (Status(LOST), True, False, True),
    ],
)
def test_how_a_run_stands(status, finished, completed, lost):
    assert (status.finished, status.completed, status.lost) == (finished, completed, lost)


@pytest.mark.parametrize(
    ("status", "sentence"),
    [
        (Status("finished:failed", "ServerApp failed with exception: no data"), "no data"),
        (Status("finished:stopped", "by user"), "finished:stopped: by user"),
        (Status("finished:failed"), "finished:failed: no details"),
    ],
)
def test_why_a_run_did_not_complete(status, sentence):
    assert status.sentence == sentence


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        ({"runs": [{"status": "running", "status-details": None}]}, Status("running", "")),
        ({"runs": [{"status": "running"}, {"status": "pending"}]}, Status("running", "")),
        ({"runs": [{"status": "finished:failed", "status-details": "why"}]}, Status("finished:failed", "why")),
        (
            {"success": False, "error-message": "[code: 16] Run ID not found."},
            Status("lost", "the SuperLink does not know the run, its database is another"),
        ),
    ],
)
def test_what_became_of_a_run(answer, status):
    flower = Asked(answer)
    assert SubmittedRun(flower, "7").status() == status
    assert flower.words == [("ls", "theirs", "--run-id", "7")]


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        (UnreachableError("the SuperLink does not answer"), "the SuperLink does not answer"),
        (LaunchError("`flwr ls` answered: nothing"), f"{UNSAID}: `flwr ls` answered: nothing"),
        (NO, f"{UNSAID}: [code: 9] No."),
    ],
)
def test_an_answer_that_says_nothing_of_the_run_is_waited_for_as_if_there_were_none(answer, sentence):
    with pytest.raises(UnreachableError) as raised:
        SubmittedRun(Asked(answer), "7").status()
    assert str(raised.value) == sentence


def test_a_run_is_stopped_or_it_is_told_why_not():
    flower = Asked({"success": True})
    SubmittedRun(flower, "7").stop()
    assert flower.words == [("stop", "7", "theirs")]
    with pytest.raises(LaunchError, match=r"^\[code: 9\] No\.$"):
        SubmittedRun(Asked(NO), "7").stop()


def test_the_log_is_read_from_its_beginning_and_its_errors_are_not_kept():
    begun = []

    class Logging(Asked):
        def process(self, *words, stderr):
            begun.append((words, stderr))
            return subprocess.Popen(["echo", "a line"], stdout=subprocess.PIPE, text=True)

    lines = []
    with SubmittedRun(Logging({}), "7").log(lines.append):
        pass
    assert begun == [(("log", "7", "theirs", "--stream"), subprocess.DEVNULL)]


@pytest.mark.parametrize(
    ("engine", "more"), [((), []), (("num-supernodes=3",), ["--federation-config", "num-supernodes=3"])]
)
def test_the_app_is_handed_over_with_all_settings(engine, more, tmp_path, monkeypatch):
    monkeypatch.setattr(submitted_run, "app_folder", lambda scratch: scratch / "app")
    flower = Asked({"success": True, "run-id": 77}, tmp_path)
    settings = {"seed": 4, "data.name": "é"}
    assert submit(flower, settings, *engine) == SubmittedRun(flower, "77")
    ((_, _, _, _, config, *_),) = flower.words
    assert flower.words == [("run", str(tmp_path / "app"), "theirs", "--run-config", config, *more)]
    assert tomllib.loads(Path(config).read_text(encoding="utf-8")) == settings


def test_each_run_has_a_config_of_its_own(tmp_path, monkeypatch):
    monkeypatch.setattr(submitted_run, "app_folder", lambda scratch: scratch / "app")
    flower = Asked({"run-id": "77"}, tmp_path)
    for seed in (0, 1):
        submit(flower, {"seed": seed})
    assert len({words[4] for words in flower.words}) == 2


def test_a_run_that_was_not_taken_is_told_with_the_reason(tmp_path, monkeypatch):
    monkeypatch.setattr(submitted_run, "app_folder", lambda scratch: scratch / "app")
    with pytest.raises(LaunchError, match=r"^Flower did not take the run: \[code: 9\] No\.$"):
        submit(Asked(NO, tmp_path), {})
