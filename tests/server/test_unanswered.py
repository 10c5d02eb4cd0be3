"""What counts as unanswered when Flower has given up waiting, by whichever clock."""

from __future__ import annotations

import pytest
from faulty_grid import Clock, Faulty, Played, once

TIMEOUT = 600


@pytest.fixture(autouse=True)
def clock(monkeypatch):
    return Clock.in_place_of_time(monkeypatch)


def sent_to_101(run):
    return [turn for kind, turn, node_id in run.grid.sent if kind == "train" and node_id == 101]


@pytest.mark.parametrize("seconds", [TIMEOUT, -TIMEOUT])
def test_a_node_at_work_is_left_alone_though_the_clock_was_set_meanwhile(clock, monkeypatch, seconds):
    """Flower waits by the wall clock: set forward, it ends the wait at once, and set back, it draws it out."""

    def sleep(waited):
        clock.now += waited
        if waited == TIMEOUT:  # Flower's
            clock.now -= seconds
            clock.ahead += seconds

    monkeypatch.setattr(clock, "sleep", sleep)
    hangs = once(("train", 2, lambda grid: grid.hanging.add(101)))
    run = Played(clock, hangs, rounds=4, clients__timeout=TIMEOUT)
    assert sent_to_101(run) == [1, 2]
    assert run.set_aside[2:] == [["client 1: its node has not answered round 2 yet"]] * 2


@pytest.mark.parametrize(("restarted", "asked"), [(False, [1]), (True, [1, 5, 6])])
def test_a_node_that_stays_silent_is_given_work_again_once_it_says_who_it_is(clock, restarted, asked):
    """Restarted with its key it keeps its id and knows nothing of the round; of one that hangs nobody waits again."""

    def befall(grid, kind, turn):
        if kind == "train":
            grid.clock.sleep(0.7 * TIMEOUT)  # what a round takes
        if (kind, turn) == ("train", 1):
            grid.hanging.add(101)
        if (kind, turn) == ("train", 2) and restarted:
            grid.held.clear()
            grid.hanging.clear()

    run = Played(clock, befall, rounds=6, clients__timeout=TIMEOUT)
    assert sent_to_101(run) == asked
    assert run.set_aside[3] == ["client 1: its node has not answered round 1 yet"]
    assert clock.now == pytest.approx((6 * 0.7 + 1) * TIMEOUT)


def test_a_request_that_flower_could_not_send_leaves_no_node_at_work(clock, monkeypatch):
    """It logs an error and returns at once, without replies."""
    sends = Faulty.send_and_receive
    failed = []

    def too_large(grid, messages, *, timeout=None):
        messages = list(messages)
        if messages[0].content["config"]["task.server-round"] == 2 and not failed:
            failed.append(messages)
            for number, message in enumerate(messages):
                message.metadata.__dict__["_message_id"] = f"not sent {number}"
            return []
        return sends(grid, messages, timeout=timeout)

    monkeypatch.setattr(Faulty, "send_and_receive", too_large)
    run = Played(clock)
    assert failed and run.clients == [[0, 1, 2]] * 4
    assert clock.now == 0
