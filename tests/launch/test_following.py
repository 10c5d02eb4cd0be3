"""How often a run that goes on is asked how it does."""

from __future__ import annotations

from contextlib import contextmanager

import pytest
from faulty_grid import Clock

from fedhpro_flwr.launch import following
from fedhpro_flwr.launch.flower import LaunchError, UnreachableError
from fedhpro_flwr.launch.following import follow
from fedhpro_flwr.launch.submitted_run import Status


class Stream:
    """A log that goes on."""

    ended = False

    def join(self, seconds):
        pass


class Run:
    """A run with these answers; `asked` is when they were given."""

    def __init__(self, clock, *states):
        self.clock, self.states, self.asked = clock, list(states), []

    @contextmanager
    def log(self, say):
        yield Stream()

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
