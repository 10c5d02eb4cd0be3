"""A run that goes on at its SuperLink without its command: `fedhpro run --resume` looks after it again."""

from __future__ import annotations

import shutil

import pytest
from fake_flwr import AWAY, COMPLETED, NO_HEARTBEAT, STOPPED, TAKEN, UNKNOWN, state
from three_rounds import SMALL

from fedhpro_flwr.config import RunConfig
from fedhpro_flwr.launch import unattended
from fedhpro_flwr.runs.folder_lock import holder, lock
from fedhpro_flwr.runs.resume import open_run

RUNNING = state("running")


@pytest.fixture
def held(stopped):
    """The folder of a run that was stopped, while run 4711 plays in it."""
    with lock(stopped, run_id="4711"):
        yield stopped


def test_it_is_followed_to_its_end_and_nothing_is_submitted(play, held):
    (held / "flower.log").write_text("Using SuperLink\n")  # what the first command has seen of the log
    status, said, submitted = play([RUNNING, RUNNING, COMPLETED], "--resume", held)
    assert (status, submitted) == (0, [])
    assert f"run 4711 on 127.0.0.1:9 goes on, 3 rounds, results in {held} on" in said
    assert (held / "flower.log").read_text() == "Using SuperLink\n\x1b[92mINFO\x1b[0m: round\n"


def test_if_it_is_lost_then_it_is_submitted_again(play, held):
    status, said, (settings,) = play([RUNNING, NO_HEARTBEAT, TAKEN, COMPLETED], "--resume", held)
    assert status == 0
    assert (settings["run-folder"], settings["resume"], settings["rounds"]) == (str(held), str(held), 3)
    assert "it goes on from its last checkpoint: 1 of 3" in said


def test_ctrl_c_stops_it(play, held):
    status, said, _ = play([RUNNING, ("ls", [RUNNING[1]]), STOPPED], "--resume", held)
    assert status == 130 and "stopping run 4711" in said


def test_it_is_not_followed_with_other_settings(play, held):
    status, said, _ = play([RUNNING], "--resume", held, rounds=9)
    assert status == 2
    assert (
        f"{held}: run 4711 goes on there with rounds = 3 (here 9); leave the change out to look after it, or end it "
        "before with `flwr stop 4711`"
    ) in said


@pytest.mark.parametrize("name", ["run", "~/run"])
def test_its_folder_may_be_named_from_here_or_from_home(name, play, held, monkeypatch):
    monkeypatch.chdir(held.parent)
    monkeypatch.setenv("HOME", str(held.parent))
    status, said, _ = play([RUNNING], **{"resume": name, "run-folder": ""})
    assert status == 2
    assert f"fedhpro: {held}: run 4711 goes on there with " in said


def test_a_run_whose_folder_is_on_another_machine_is_submitted(play, tmp_path):
    folder = tmp_path / "elsewhere"
    status, _, (settings,) = play([TAKEN, COMPLETED], **{"resume": folder, "run-folder": ""})
    assert (status, settings["resume"]) == (0, str(folder))


def test_a_new_run_is_submitted_also_from_within_the_folder_of_one_that_goes_on(play, held, monkeypatch):
    monkeypatch.chdir(held)
    status, _, (settings,) = play([TAKEN, COMPLETED], **{"run-folder": held.parent / "new"})
    assert (status, settings["resume"]) == (0, "")


def test_a_run_that_this_superlink_does_not_know_is_left_alone(play, held):
    """A simulation's, or that of another SuperLink."""
    status, said, _ = play([UNKNOWN], "--resume", held)
    assert status == 2
    assert f"{held}: another process still writes this run; wait for it or stop it" in said


def test_nothing_is_done_while_the_superlink_does_not_answer(play, held):
    status, said, _ = play([("ls", AWAY)], "--resume", held)
    assert status == 2
    assert "not submitted: the SuperLink does not answer: 127.0.0.1:9: Connection refused" in said


def test_a_serverapp_whose_run_is_over_is_given_time_to_end(play, stopped, monkeypatch):
    held = lock(stopped, run_id="4711")

    def ended_meanwhile(folder, patience):
        held.close()
        return lock(folder, patience)

    monkeypatch.setattr(unattended, "lock", ended_meanwhile)
    status, said, (settings,) = play([NO_HEARTBEAT, TAKEN, COMPLETED], "--resume", stopped, rounds=4)
    assert status == 0
    assert f"run 4711 is over, waiting for its ServerApp to leave {stopped}, 90 s at most" in said
    assert (settings["resume"], settings["rounds"]) == (str(stopped), 4)


def test_for_no_longer_than_that(play, held, monkeypatch):
    monkeypatch.setattr(unattended, "ORPHAN_SECONDS", 0.0)
    status, said, _ = play([NO_HEARTBEAT], "--resume", held)
    assert status == 2 and "another process still writes this run" in said


def test_a_run_that_nobody_plays_is_submitted(play, stopped):
    status, said, submitted = play([TAKEN, COMPLETED], "--resume", stopped, rounds=4)
    assert (status, len(submitted)) == (0, 1)
    assert "goes on," not in said


def test_rounds_of_before_are_not_in_the_command_s_time(play, finished):
    status, said, _ = play([TAKEN, COMPLETED], "--resume", finished, rounds=4)  # which the written answer does not play
    assert status == 0
    assert "wall clock" in said and "of which" not in said


def test_the_folder_names_the_run_that_holds_it(stopped):
    with open_run(RunConfig.parse(SMALL | {"rounds": 4, "resume": str(stopped)}), "12")[0]:
        assert holder(stopped) == "12"
    assert holder(stopped) == ""
    shutil.rmtree(stopped)
    with open_run(RunConfig.parse(SMALL | {"run-folder": str(stopped)}), "345")[0]:
        assert holder(stopped) == "345"
