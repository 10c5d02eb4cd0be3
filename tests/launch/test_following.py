"""How often a run that goes on is asked how it does, and what becomes of its log."""

from __future__ import annotations

from contextlib import contextmanager

import pytest
from faulty_grid import Clock

from fedhpro_flwr.launch import following
from fedhpro_flwr.launch.flower import LaunchError, UnreachableError
from fedhpro_flwr.launch.following import follow
from fedhpro_flwr.launch.submitted_run import Status


class Stream:
    """A log that goes on, or has ended; `asked_for` is what was done with it."""

    def __init__(self, ended):
        self.ended, self.asked_for = ended, []

    def join(self, seconds):
        self.asked_for.append(f"join {seconds:.0f}")

    def open(self):
        self.asked_for.append("open")

    def close(self):
        self.asked_for.append("close")


class Run:
    """A run with these answers; `asked` is when they were given."""

    def __init__(self, clock, *states, log_ended=False):
        self.clock, self.states, self.asked, self.stream = clock, list(states), [], Stream(log_ended)

    @contextmanager
    def log(self, say):
        yield self.stream

    def status(self):
        self.asked.append(self.clock.now)
        if (state := self.states.pop(0)) == "away":
            raise UnreachableError("the SuperLink does not answer")
        return Status(state, "")


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(following, "time", clock)
    return clock


def test_a_long_run_is_asked_ever_more_seldom(clock):
    run = Run(clock, *["running"] * 6, "finished:completed")
    assert follow(run, print).completed
    gaps = [after - before for before, after in zip([0.0, *run.asked], run.asked, strict=False)]
    assert gaps == pytest.approx([15, 30, 60, 120, 120, 120, 120], abs=2 * following.POLL_SECONDS + 1e-6)


def test_a_run_that_nobody_begins_with_is_given_up_after_a_minute_and_a_half(clock):
    run = Run(clock, *["pending"] * 9)
    with pytest.raises(LaunchError, match="still pending after 90 s"):
        follow(run, print)
    assert 90 < clock.now < 110


def test_the_time_without_a_superlink_does_not_count_against_a_run_that_is_about_to_begin(clock):
    run = Run(clock, *["away"] * 3, "pending", "running", "finished:completed")
    assert follow(run, print, patience=600.0).completed
    assert run.asked[3] > following.START_TIMEOUT


def test_a_run_that_nobody_begins_with_after_its_superlink_is_back_is_given_up_too(clock):
    run = Run(clock, *["away"] * 3, *["pending"] * 9)
    with pytest.raises(LaunchError, match="still pending after 90 s"):
        follow(run, print, patience=600.0)
    assert run.states  # and not for ever


def test_a_log_that_broke_off_is_begun_again_and_the_run_asked_soon_as_long_as_it_goes_on(clock):
    run = Run(clock, "running", "away", "running", "finished:failed", log_ended=True)
    assert not follow(run, print, patience=600.0).completed
    assert run.asked == pytest.approx([3, 6, 9, 12], abs=4 * 2 * following.POLL_SECONDS)
    assert run.stream.asked_for == ["close", "open", "close", "open", "join 3"]


def test_a_log_that_goes_on_is_not_begun_again_and_its_last_lines_are_waited_for(clock):
    run = Run(clock, "running", "finished:completed")
    follow(run, print)
    assert run.stream.asked_for == ["join 3"]


def test_a_superlink_that_is_away_is_waited_for_as_long_as_it_is_said_and_said_once(clock):
    run, told = Run(clock, "running", *["away"] * 9), []
    with pytest.raises(UnreachableError, match=r"^the SuperLink does not answer, for 1[78]\d s$"):
        follow(run, print, told=told.append, patience=100.0)
    assert told == ["the SuperLink does not answer; waiting for it, 100 s at most"]
    assert len(run.asked) == 4


def test_each_time_that_a_superlink_is_away_counts_for_itself(clock):
    run, told = Run(clock, "away", "running", "running", "away", "finished:completed"), []
    assert follow(run, print, told=told.append, patience=100.0).completed
    away = "the SuperLink does not answer; waiting for it, 100 s at most"
    assert told == [away, "the SuperLink answers again"] * 2


def test_without_patience_a_superlink_that_is_away_is_not_waited_for(clock):
    with pytest.raises(UnreachableError, match=r"^the SuperLink does not answer, for 0 s$"):
        follow(Run(clock, "away"), print)


def test_a_run_is_not_waited_for_any_more_once_the_check_says_so(clock):
    def dies_in_a_minute():
        if clock.now > 60:
            raise LaunchError("the SuperLink died")

    with pytest.raises(LaunchError, match=r"^the SuperLink died$"):
        follow(Run(clock, *["running"] * 9), print, check=dies_in_a_minute)
    assert 60 < clock.now < 61
