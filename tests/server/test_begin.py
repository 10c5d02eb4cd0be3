"""How long the beginning of a run waits for nodes that are listed and have not said who they are."""

from __future__ import annotations

import pytest
from faulty_grid import CONFIG, UNAVAILABLE, Clock, Faulty, Played, once
from flwr.app import Error, Message

from fedhpro_flwr.config import ConfigError, RunConfig
from fedhpro_flwr.runs.checkpoint import RunSoFar
from fedhpro_flwr.server import inquiries
from fedhpro_flwr.server.answers import TooFewNodes
from fedhpro_flwr.server.roster import Roster


@pytest.fixture(autouse=True)
def clock(monkeypatch):
    return Clock.in_place_of_time(monkeypatch)


class Slow(Faulty):
    """Nodes that answer the question who they are after so many seconds; the rest hang."""

    def __init__(self, clock, seconds, nodes=3):
        super().__init__(clock, lambda *_: None, nodes=nodes)
        self.seconds, self.hanging = seconds, {node for node in self._contexts if seconds.get(node)}

    def pull_messages(self, message_ids):
        self.hanging -= {node for node, seconds in self.seconds.items() if seconds <= self.clock.now}
        return super().pull_messages(message_ids)


def begun(clock, seconds, **settings):
    roster = Roster(Slow(clock, seconds, len(seconds)), RunConfig.parse(CONFIG, **settings), RunSoFar("ab"), 4)
    roster.begin(3600)
    return roster


NEVER = float("inf")


@pytest.mark.parametrize("num_nodes", [0, 2])
def test_a_node_that_never_answers_holds_a_run_up_for_seconds_not_for_the_timeout(clock, caplog, num_nodes):
    run = Played(
        clock,
        lambda grid, kind, turn: grid.hanging.add(102),
        rounds=1,
        clients__num_nodes=num_nodes,
        partition__scheme="nodes",
        data__classes="3",
        data__input_shape="5",
        data__name="npz",
    )
    assert run.clients == [[0, 1]]
    assert clock.now == inquiries.JOIN_SECONDS + (0 if num_nodes else inquiries.QUIET_SECONDS)
    assert "the run begins without an answer of node 102" in [record.getMessage() for record in caplog.records]


def test_a_node_that_answers_after_the_beginning_joins_the_run(clock, caplog):
    caplog.set_level("INFO", logger="flwr")
    hangs = once(("query", 0, lambda grid: grid.hanging.add(102)), ("train", 1, lambda grid: grid.hanging.clear()))
    run = Played(clock, hangs, rounds=2)
    assert [node for kind, turn, node in run.grid.sent if (kind, turn) == ("train", 1)] == [100, 101, 100]
    assert [node for kind, turn, node in run.grid.sent if (kind, turn) == ("train", 2)] == [100, 101, 102]
    assert "client 2 joined, as node 102" in [record.getMessage() for record in caplog.records]
    assert len([entry for entry in run.grid.sent if entry[0] == "query"]) == 3  # nobody was asked twice


def test_so_many_nodes_as_the_settings_name_are_waited_for_and_told(clock, caplog):
    assert begun(clock, {100: 0, 101: 200, 102: 300}, clients__num_nodes=3).draw(1).nodes == {0: 100, 1: 101, 2: 102}
    assert 300 <= clock.now <= 300 + inquiries.POLL_SECONDS
    said = [record.getMessage() for record in caplog.records if "waited for" in record.getMessage()]
    assert said == [
        "1 of 3 nodes answered, waited for: node 101, 102",
        "2 of 3 nodes answered, waited for: node 102",
    ]
    clock.now = 0
    with pytest.raises(TooFewNodes, match=r"^2 nodes answered in 3600 s, clients\.num-nodes = 3 are needed$"):
        begun(clock, {100: 0, 101: 9, 102: NEVER}, clients__num_nodes=3)


def test_nodes_that_answer_one_after_the_other_are_all_there_in_the_first_round(clock):
    """In a simulation of many clients on few cores, whose settings name no number of nodes."""
    slowly = {100 + client: 20 + 8 * client for client in range(40)}
    nodes = begun(clock, slowly, partition__num_partitions=40).draw(1).nodes
    assert nodes == {client: 100 + client for client in range(40)}
    assert clock.now == pytest.approx(max(slowly.values()), abs=inquiries.POLL_SECONDS)


def test_a_run_does_not_begin_before_the_first_node_has_answered(clock):
    """On a machine that is busy with the start of all of them."""
    assert begun(clock, {100: 70, 101: 75, 102: 79}).draw(1).nodes == {0: 100, 1: 101, 2: 102}
    clock.now = 0
    with pytest.raises(ConfigError, match=r"^no node introduced itself: no answer in 3600 s$"):
        begun(clock, {100: NEVER})
    assert clock.now == 3600


class JustRestarted(Faulty):
    """Every node has come back under another id after ten seconds; for a minute the SuperLink lists the old ids too."""

    def __init__(self, clock):
        super().__init__(clock, lambda *_: None)
        for node in list(self._contexts):
            self.restart(node, node + 100)

    def get_node_ids(self):
        listed = {*self._contexts} - (self.gone if self.clock.now >= 60 else set())
        return sorted(node for node in listed if node < 200 or self.clock.now >= 10)


@pytest.mark.parametrize("num_nodes", [0, 3])
def test_nodes_that_cannot_be_reached_are_no_reason_to_end_a_run_that_has_not_begun(clock, num_nodes):
    settings = RunConfig.parse(CONFIG, clients__num_nodes=num_nodes)
    roster = Roster(JustRestarted(clock), settings, RunSoFar("ab"), 4)
    roster.begin(3600)
    assert roster.draw(1).nodes == {0: 200, 1: 201, 2: 202}
    assert clock.now <= 60


class Unreachable(Faulty):
    """Its nodes are listed and nothing else."""

    def push_messages(self, messages):
        message_ids = super().push_messages(messages)
        self._replies.clear()
        return message_ids

    def send_and_receive(self, messages, *, timeout=None):
        messages = list(messages)
        self.push_messages(messages)
        return [Message(Error(code=UNAVAILABLE, reason="Error: Node Unavailable"), reply_to=each) for each in messages]


def test_nodes_that_can_never_be_reached_end_it_at_the_timeout(clock):
    roster = Roster(Unreachable(clock, lambda *_: None), RunConfig.parse(CONFIG), RunSoFar("ab"), 4)
    with pytest.raises(ConfigError, match=r"^no node introduced itself: node 100: Error: Node Unavailable$"):
        roster.begin(600)
    assert clock.now == 600
