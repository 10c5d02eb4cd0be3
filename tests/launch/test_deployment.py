"""A run on a SuperLink, with Flower's answers written down: its exit status, and when it is submitted again."""

from __future__ import annotations

import os
import signal
import tempfile
from pathlib import Path

import pytest
from fake_flwr import AWAY, BY_SIGNAL, COMPLETED, NO_HEARTBEAT, NOT_TAKEN, STOPPED, TAKEN, UNKNOWN, failed, state

from fedhpro_flwr.cli import main
from fedhpro_flwr.launch import deployment, flower, following
from fedhpro_flwr.runs.progress import HEADING


def test_a_completed_run_ends_with_0_and_its_log_is_on_the_screen_and_in_the_file(play, tmp_path):
    status, said, (settings,) = play([TAKEN, state("running"), COMPLETED], rounds=7)
    assert status == 0
    assert (settings["rounds"], settings["run-folder"], settings["resume"]) == (7, str(tmp_path / "run"), "")
    assert said.count("INFO: round\n") == 1
    assert (tmp_path / "run" / "flower.log").read_text() == "Using SuperLink\n\x1b[92mINFO\x1b[0m: round\n"
    assert said.splitlines()[-1] == f"done: the results are in {tmp_path / 'run'} on the SuperLink's machine"


def test_a_new_folder_under_the_results_is_chosen_on_this_side(play, tmp_path):
    _, _, (settings,) = play([TAKEN, COMPLETED], **{"run-folder": "", "results-dir": tmp_path / "results"})
    assert Path(settings["run-folder"]).parent == tmp_path / "results" / "digits"


@pytest.mark.parametrize(
    ("end", "sentence"),
    [
        (failed("data.path = '/x' does not exist"), "the run failed: data.path = '/x' does not exist"),
        (state("finished:stopped", "by user"), "the run failed: finished:stopped: by user"),
        (state("finished:failed", "Task failed because the run expired"), "Task failed because the run expired"),
    ],
)
def test_a_failed_run_ends_with_1_and_the_reason_and_is_not_submitted_again(end, sentence, play):
    status, said, _ = play([TAKEN, end])
    assert status == 1
    assert said.splitlines()[-1].endswith(sentence)


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        (AWAY, "the SuperLink does not answer: 127.0.0.1:9: Connection refused; start "),
        (NOT_TAKEN[1], "Flower did not take the run: [code: 9] No."),
    ],
)
def test_a_run_that_was_not_taken_ends_with_2(answer, sentence, play):
    status, said, _ = play([("run", answer)])
    assert status == 2
    last = said.splitlines()[-1]
    assert last.startswith(f"fedhpro: not submitted: {sentence}")


@pytest.mark.parametrize("lost", [NO_HEARTBEAT, BY_SIGNAL, UNKNOWN])
def test_a_lost_run_goes_on_in_its_folder(lost, play, tmp_path):
    status, said, (first, second) = play([TAKEN, ("ls", AWAY), ("ls", AWAY), lost, TAKEN, COMPLETED])
    assert status == 0
    assert said.count("the SuperLink does not answer; waiting for it, 600 s at most") == 1
    assert said.count("the SuperLink answers again") == 1
    assert "it goes on from its last checkpoint: 1 of 3" in said and "times" not in said
    assert second == first | {"resume": str(tmp_path / "run")}


def test_a_lost_run_waits_for_the_superlink_to_take_it_again(play):
    assert play([TAKEN, NO_HEARTBEAT, ("run", AWAY), ("run", AWAY), TAKEN, COMPLETED])[0] == 0


def test_a_superlink_that_does_not_come_back_ends_with_1(play, monkeypatch):
    monkeypatch.setattr(deployment, "PATIENCE", 0.0)
    status, said, _ = play([TAKEN, ("ls", AWAY)])
    assert status == 1
    assert "run 77 may go on there" in said.splitlines()[-1]


def test_only_so_many_restarts(play):
    status, said, submitted = play([TAKEN, NO_HEARTBEAT, TAKEN, NO_HEARTBEAT], "--restarts", "1")
    assert (status, len(submitted)) == (1, 2)
    assert said.splitlines()[-1].endswith("lost with its server, 2 times (No heartbeat received from the task)")


def test_no_restart_where_none_is_wanted(play):
    status, _, submitted = play([TAKEN, NO_HEARTBEAT], "--restarts", "0")
    assert (status, len(submitted)) == (1, 1)


def test_a_run_that_was_lost_before_it_wrote_anything_begins_anew(play):
    refused = failed("resume = '/x' holds no run that was begun: there is no config.toml in it")
    status, said, submitted = play([TAKEN, NO_HEARTBEAT, TAKEN, refused, TAKEN, COMPLETED])
    assert status == 0
    assert submitted[2] == submitted[0]
    assert "it begins anew" in said


def test_a_run_that_has_played_rounds_does_not_begin_anew_where_its_folder_is_away(play, tmp_path):
    (tmp_path / "bin" / "played").write_text(f"INFO: {HEADING}")
    refused = failed("resume = '/x' holds no run that was begun: there is no config.toml in it")
    status, said, _ = play([TAKEN, NO_HEARTBEAT, TAKEN, refused])
    assert status == 1
    assert said.splitlines()[-1].endswith("holds no run that was begun: there is no config.toml in it")


def test_a_question_that_was_killed_is_asked_again_and_stops_nothing(play):
    status, said, _ = play([TAKEN, ("ls", "killed"), COMPLETED])
    assert status == 0
    assert "what became of the run: `flwr ls` answered: nothing, and ended with signal 9; waiting" in said


def test_a_resumed_run_whose_nodes_are_not_back_yet_is_submitted_again(play):
    late = failed("0 nodes answered in 60 s, clients.num-nodes = 3 are needed; go on with `fedhpro run --resume /x`")
    assert play([TAKEN, NO_HEARTBEAT, TAKEN, late, TAKEN, COMPLETED])[0] == 0


def test_a_new_run_that_misses_nodes_is_not(play):
    late = failed("0 nodes answered in 60 s, clients.num-nodes = 3 are needed")
    assert play([TAKEN, late])[0] == 1


def test_a_log_that_finds_no_room_is_said_once_and_the_run_ends_well(play, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "flower.log").symlink_to("/dev/full")
    status, said, _ = play([TAKEN, state("running"), COMPLETED])
    assert status == 0
    assert said.count("flower.log cannot be written (No space left on device): lines of the log are lost there") == 1
    assert "INFO: round" in said


def test_a_run_that_was_lost_after_its_last_word_is_complete(play):
    refused = failed("resume = '/x': the run is finished after 6 rounds; to make it longer set more rounds")
    assert play([TAKEN, NO_HEARTBEAT, TAKEN, refused])[0] == 0


@pytest.mark.parametrize("sentence", ["/x holds no run that was begun: ", "/x: the run is finished after 6 rounds; "])
def test_the_same_refusals_of_a_run_that_was_not_lost_are_failures(sentence, play):
    assert play([TAKEN, failed(sentence)])[0] == 1


def test_without_checkpoints_a_lost_run_begins_anew(play):
    status, said, submitted = play([TAKEN, NO_HEARTBEAT, TAKEN, COMPLETED], **{"checkpoint.every": 0})
    assert status == 0
    assert submitted[1] == submitted[0]
    assert "begins anew (checkpoint.every = 0)" in said


def test_detached_the_run_stays_there_and_its_id_is_printed(play, tmp_path):
    status, said, _ = play([TAKEN], "--detach")
    assert status == 0
    assert "run 77 on 127.0.0.1:9" in said
    assert f"`fedhpro run --resume {tmp_path / 'run'} --superlink 127.0.0.1:9 --insecure` does" in said


@pytest.mark.parametrize("answers", [[TAKEN, ("ls", [state("running")[1]]), STOPPED], [("run", [TAKEN[1]]), STOPPED]])
def test_ctrl_c_stops_the_run_and_ends_with_130(answers, play):
    status, said, _ = play(answers)
    assert status == 130
    assert "stopping run 77" in said


@pytest.mark.parametrize("before", [[], [TAKEN, NO_HEARTBEAT]])
@pytest.mark.parametrize("answer", [AWAY, NOT_TAKEN[1]])
def test_ctrl_c_ends_with_130_where_no_superlink_takes_the_run(before, answer, play):
    assert play([*before, ("run", [answer])])[0] == 130


def test_sigterm_leaves_the_run_there_and_takes_the_scratch_folder_away(play, tmp_path, monkeypatch):
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    monkeypatch.setattr(deployment, "follow", lambda *_, **__: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(SystemExit) as ended:
        play([TAKEN])
    assert ended.value.code == 143 and list(scratch.iterdir()) == []
    assert len((tmp_path / "bin" / "asked.jsonl").read_text().splitlines()) == 1  # nobody asked to stop it


def test_a_run_that_nobody_begins_with_is_stopped(play, monkeypatch):
    monkeypatch.setattr(following, "START_TIMEOUT", 0.0)
    status, said, _ = play([TAKEN, state("pending"), STOPPED])
    assert status == 1
    assert said.splitlines()[-1].endswith(
        "the run is still pending after 0 s: nobody starts its ServerApp; if the SuperLink's flower-superexec is gone, "
        "restart the SuperLink"
    )


def test_a_finished_run_in_the_folder_is_refused_before_anything_is_asked(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(flower, "tool", lambda name: pytest.fail("Flower was asked"))
    (tmp_path / "summary.json").write_text("{}")
    status = main(["run", "--set", f"run-folder={tmp_path}", "--superlink", "host:1"])
    assert status == 2
    assert "holds a finished run" in capsys.readouterr().err
