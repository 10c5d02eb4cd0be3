"""A simulation that is stopped before it has begun: what was made for it goes with it, its exit status says why."""

from __future__ import annotations

import os
import signal
import tempfile
from threading import Thread

import pytest

from fedhpro_flwr.launch import private_superlink, simulation
from fedhpro_flwr.launch.flower import LaunchError, environment
from fedhpro_flwr.launch.simulation import PATIENCE, simulate
from fedhpro_flwr.launch.submitted_run import Status
from fedhpro_flwr.launch.termination import SIGNALS, in_order


@pytest.fixture(autouse=True)
def hears_of_a_closed_terminal():
    """Whatever the tests were started under: after nohup nobody does."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.fixture
def scratch(tmp_path, monkeypatch):
    """Where the run's folder is made, beside a SuperLink that never answers."""
    command = tmp_path / "flower-superlink"
    command.write_text("#!/bin/sh\nexec sleep 60\n")
    command.chmod(0o755)
    monkeypatch.setattr(private_superlink, "tool", lambda name: str(command))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "scratch"))
    (tmp_path / "scratch").mkdir()
    return tmp_path / "scratch"


@pytest.mark.parametrize(
    ("number", "stop"),
    [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit), (signal.SIGHUP, SystemExit)],
)
def test_a_signal_takes_the_scratch_folder_away(number, stop, scratch, monkeypatch):
    before = [signal.getsignal(each) for each in (signal.SIGINT, *SIGNALS)]
    there = []

    def interrupted(port):
        there.extend(scratch.iterdir())
        os.kill(os.getpid(), number)
        return False

    monkeypatch.setattr(private_superlink, "accepts", interrupted)
    with pytest.raises(stop) as stopped:
        simulate({}, num_nodes=1, log_file=scratch.parent / "flower.log")
    assert len(there) == 1 and list(scratch.iterdir()) == []
    assert [signal.getsignal(each) for each in (signal.SIGINT, *SIGNALS)] == before
    if stop is SystemExit:
        assert stopped.value.code == 128 + number


def test_what_lies_there_stays_where_the_run_could_not_be_followed(scratch, monkeypatch):
    monkeypatch.setattr(private_superlink, "START_TIMEOUT", 0.0)
    with pytest.raises(LaunchError, match=r"the SuperLink did not start \(log: .*flower\.log\)"):
        simulate({}, num_nodes=1, log_file=scratch.parent / "flower.log")
    assert len(list(scratch.iterdir())) == 1


@pytest.mark.parametrize("status", [Status("finished:completed"), Status("finished:failed")])
def test_a_run_that_ended_leaves_nothing_and_says_how_it_ended(status, scratch, monkeypatch):
    submitted, log_file = [], scratch.parent / "flower.log"

    def follow(run, say, *, check, patience):
        check()
        say("a line")
        assert patience == PATIENCE
        return status

    monkeypatch.setattr(private_superlink, "accepts", lambda port: True)
    monkeypatch.setattr(simulation, "submit", lambda flower, *given: submitted.extend(given))
    monkeypatch.setattr(simulation, "follow", follow)
    try:
        simulate({"seed": 1}, num_nodes=3, log_file=log_file, gpus=0.5)
        assert status.completed
    except LaunchError as error:
        assert (status.completed, str(error)) == (False, f"finished:failed: no details (log: {log_file})")
    engine = "num-supernodes=3 client-resources-num-cpus=1 client-resources-num-gpus=0.5"
    assert (submitted, log_file.read_text()) == ([{"seed": 1}, engine], "a line\n")
    assert list(scratch.iterdir()) == []


def test_the_second_sigterm_does_not_disturb_the_end():
    done = []
    with pytest.raises(SystemExit), in_order():
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        finally:
            os.kill(os.getpid(), signal.SIGTERM)
            done.append(True)
    assert done and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_who_handles_sigterm_already_goes_on_doing_so():
    heard = []
    signal.signal(signal.SIGTERM, lambda number, frame: heard.append(number))
    try:
        with in_order():
            os.kill(os.getpid(), signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
    assert heard == [signal.SIGTERM]


def test_under_nohup_a_closed_terminal_ends_nothing():
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with in_order():
            os.kill(os.getpid(), signal.SIGHUP)
            assert signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL  # the other one is taken all the same
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)


def test_another_thread_than_the_main_one_may_simulate_too():
    passed = []

    def work():
        with in_order():
            handler = signal.getsignal(signal.SIGTERM)
        passed.append(handler)

    thread = Thread(target=work)
    thread.start()
    thread.join()
    assert passed == [signal.SIG_DFL]


def test_flower_runs_without_what_ray_does_not_start_under(tmp_path, monkeypatch):
    """Without docstrings its node timed out after a minute."""
    monkeypatch.setenv("PYTHONOPTIMIZE", "2")
    assert "PYTHONOPTIMIZE" not in environment(tmp_path)
