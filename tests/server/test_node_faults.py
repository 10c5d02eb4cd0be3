"""Nodes that die, hang, come back under another id, join late or answer late: what the rounds make of them."""

from __future__ import annotations

import logging

import pytest
from faulty_grid import CLIENTS, WIDTH, Clock, Faulty, Played, client_data, new_model, once

from client_app.app import make_client_app
from fedhpro_flwr.client_data import ClientData
from fedhpro_flwr.config import ConfigError
from fedhpro_flwr.introduction import Introduction
from fedhpro_flwr.seeding import sample_partitions
from fedhpro_flwr.server import inquiries, roster


@pytest.fixture(autouse=True)
def clock(monkeypatch):
    return Clock.in_place_of_time(monkeypatch)


def test_a_node_that_restarts_under_a_new_id_takes_its_client_up_again(clock, caplog):
    caplog.set_level(logging.INFO, logger="flwr")
    run = Played(
        clock,
        once(("train", 2, lambda grid: grid.gone.add(101)), ("train", 3, lambda grid: grid.restart(101, 555))),
    )
    assert run.clients == [[0, 1, 2], [0, 2], [0, 2], [0, 1, 2]]
    assert run.set_aside == [[], ["client 1: Error: Node Unavailable"], ["client 1: its node is gone"], []]
    said = [record.getMessage() for record in caplog.records]
    assert "client 1: node 101 is gone" in said and "client 1 is back, as node 555" in said
    assert [entry for entry in run.grid.sent if entry[0] == "query"] == [
        ("query", 0, 100), ("query", 0, 101), ("query", 0, 102), ("query", 0, 555),
    ]  # fmt: skip
    assert ("train", 3, 101) not in run.grid.sent


def test_a_node_that_is_back_after_the_last_round_tests_for_its_client(clock):
    run = Played(clock, once(("train", 4, lambda grid: grid.restart(101, 555))))
    assert run.clients[3] == [0, 2]
    assert [node_id for kind, _, node_id in run.grid.sent if kind == "evaluate"] == [100, 555, 102]
    assert [test.partition_id for test in run.strategy.tests] == [0, 1, 2]


def test_where_all_nodes_stay_nobody_is_asked_twice(clock):
    run = Played(clock)
    assert len([entry for entry in run.grid.sent if entry[0] == "query"]) == CLIENTS
    assert len(run.grid.sent) == CLIENTS * (1 + 4 + 1)


def test_a_second_node_of_a_client_waits_until_the_first_is_gone(clock, caplog):
    def twin(grid):
        grid.restart(101, 555)
        grid.gone.discard(101)

    run = Played(clock, once(("train", 1, twin), ("train", 3, lambda grid: grid.gone.add(101))))
    assert run.clients == [[0, 1, 2], [0, 1, 2], [0, 2], [0, 1, 2]]
    wanted = "node 555 says partition-id = 1 as node 101 does: it is set aside for as long as that one is there"
    assert [record.getMessage() for record in caplog.records].count(wanted) == 1
    assert [node_id for kind, turn, node_id in run.grid.sent if (kind, turn) == ("train", 4)] == [100, 555, 102]


def test_a_node_that_comes_back_with_another_width_is_set_aside_and_the_run_goes_on(clock):
    def client_side(config, task, context):
        return new_model(WIDTH + bool(context.node_config.get("wide"))), client_data(task.partition_id)

    run = Played(
        clock, once(("train", 1, lambda grid: grid.restart(101, 555, wide=True))), app=make_client_app(client_side)
    )
    assert run.clients == [[0, 2]] * 4
    assert run.set_aside[1] == [
        "client 1 has features of width 5, the server's head of width 4; give every model the same width "
        "(in_features of its head)"
    ]


def test_a_node_that_comes_back_with_other_code_is_set_aside(clock, monkeypatch):
    def restart(grid):
        grid.restart(101, 555)
        mine = Introduction.pack
        monkeypatch.setattr(
            Introduction, "pack", lambda self: mine(Introduction(0, self.partition_id, "feed", "cnn", WIDTH))
        )

    run = Played(clock, once(("train", 1, restart)))
    assert run.clients == [[0, 2]] * 4
    assert run.set_aside[3][0].startswith("client 1: node 555 runs other code (feed) than the server (")


def test_what_an_unnamed_node_played_is_taken_over(clock):
    def nameless(grid, kind, turn):
        for context in grid._contexts.values():
            context.node_config["partition-id"] = -1
        if (kind, turn) == ("train", 2):
            grid.gone.add(101)

    run = Played(clock, nameless, nodes=2)
    assert run.clients == [[0, 1, 2], [0, 2], [0, 1, 2], [0, 1, 2]]
    assert [node_id for kind, turn, node_id in run.grid.sent if (kind, turn) == ("train", 3)] == [100, 100, 100]


def test_clients_with_data_of_their_own_join_when_their_node_comes(clock, caplog):
    """Nobody stands in for them, and until then they are not drawn."""
    caplog.set_level(logging.INFO, logger="flwr")

    def late(grid):
        grid.restart(100, 555, **{"partition-id": 2})
        grid.gone.discard(100)

    run = Played(
        clock, once(("train", 2, late)), nodes=2, partition__scheme="nodes", data__classes="3", data__input_shape="5",
        data__name="npz", clients__per_round=2,
    )  # fmt: skip
    assert run.clients[:2] == [[0, 1], [0, 1]]
    assert run.clients[2:] == [sample_partitions(3, 2, seed=0, server_round=turn, sampling="round") for turn in (3, 4)]
    assert "client 2 joined, as node 555" in [record.getMessage() for record in caplog.records]


def test_a_node_that_hangs_is_left_alone_until_it_answers_and_that_answer_does_not_count(clock):
    run = Played(
        clock,
        once(("train", 2, lambda grid: grid.hanging.add(101)), ("train", 3, lambda grid: grid.hanging.clear())),
    )
    assert run.clients == [[0, 1, 2], [0, 2], [0, 2], [0, 1, 2]]
    assert run.set_aside == [
        [],
        ["client 1: did not reply"],
        ["client 1: its node has not answered round 2 yet"],
        ["client 1: its answer to round 2 came too late"],
    ]
    assert ("train", 3, 101) not in run.grid.sent
    assert clock.now == 3600  # one timeout: the round after it does not wait

    gone = once(("train", 2, lambda grid: grid.gone.add(101)), ("train", 4, lambda grid: grid.gone.discard(101)))
    assert Played(clock, gone).clients[:3] == run.clients[:3]


def test_a_node_that_answers_nothing_delays_a_round_once(clock):
    def silent(grid):
        grid.restart(102, 555)
        grid.gone.discard(102)
        grid.hanging.add(555)

    run = Played(clock, once(("train", 1, silent), ("train", 3, lambda grid: grid.hanging.clear())))
    assert clock.now == inquiries.JOIN_SECONDS
    assert run.clients == [[0, 1, 2]] * 4


def test_a_node_that_lost_the_question_who_it_is_is_asked_again_after_a_timeout(clock):
    """Restarted with its key while it answers, it keeps its id and knows nothing of the question."""

    def befall(grid, kind, turn):
        if kind == "train":
            grid.clock.sleep(0.7 * 3600)  # what a round takes
        if (kind, turn) == ("train", 1):
            grid.restart(101, 555)
            grid.hanging.add(555)
        if (kind, turn) == ("train", 2):
            grid.held.clear()
            grid.hanging.clear()

    run = Played(clock, befall, rounds=5)
    assert ("query", 0, 555) in run.grid.sent
    assert run.clients == [[0, 2]] * 4 + [[0, 1, 2]]


def test_without_any_node_that_names_a_client_there_is_no_run_on_the_nodes_own_data(clock):
    def nameless(grid, kind, turn):
        for context in grid._contexts.values():
            context.node_config["partition-id"] = -1

    with pytest.raises(ConfigError, match=r"^partition\.scheme = 'nodes': no node names its client"):
        Played(clock, nameless, partition__scheme="nodes", data__classes="3", data__input_shape="5", data__name="npz")


def test_clients_that_no_node_names_are_told_when_a_run_on_the_nodes_own_data_begins(clock, caplog):
    def nameless(grid, kind, turn):
        grid._contexts[101].node_config["partition-id"] = -1

    with caplog.at_level("INFO", "flwr"):
        run = Played(
            clock, nameless, partition__scheme="nodes", data__classes="3", data__input_shape="5", data__name="npz"
        )
    said = [record.getMessage() for record in caplog.records]
    assert "no node names client 1: not drawn, nor counted in the quorum, until one does" in said
    assert {"client 0: node 100", "client 2: node 102"} <= set(said)
    assert all(clients == [0, 2] for clients in run.clients)


def test_the_test_after_the_last_round_waits_for_nodes_where_the_server_has_nothing_to_test(clock):
    """Two of three nodes die with the last round, and are back while the server waits to repeat the test."""
    done = []

    def befall(grid, kind, turn):
        if kind == "evaluate":
            done.append(set(grid.get_node_ids()))
            if len(done) == 1:
                grid.gone |= {101, 102}
            elif len(done) == 2:
                pytest.fail("it was asked before anybody was back")

    listed = roster.Roster.pause

    def pause(self, clients, timeout):
        self.unanswered._grid.restart(101, 201)
        self.unanswered._grid.restart(102, 202)
        self.unanswered._grid.befall = lambda *_: None
        listed(self, clients, timeout)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(roster.Roster, "pause", pause)
        run = Played(clock, befall)
    assert [test.partition_id for test in run.strategy.tests] == [0, 1, 2]
    assert [node for kind, _, node in run.grid.sent if kind == "evaluate"] == [100, 101, 102, 100, 201, 202]


def test_below_the_quorum_of_the_last_test_the_run_stops_and_says_who_is_missing(clock):
    run = Played(
        clock, once(("evaluate", 4, lambda grid: grid.gone.update({101, 102}))), clients__retries=0, fails=True
    )
    assert str(run.lost) == (
        "the test after the last round: 1 of 3 clients replied, clients.quorum = 0.6 needs 2; "
        "clients 1, 2: Error: Node Unavailable"
    )
    assert len(run.reports) == 4


def test_clients_that_have_nothing_to_test_are_heard(clock):
    def client_side(config, task, context):
        return new_model(), ClientData(client_data(task.partition_id).train, None, (0.0,), (1.0,))

    run = Played(clock, app=make_client_app(client_side), clients__quorum=1.0)
    assert [int(test.by_head.cells.sum()) for test in run.strategy.tests] == [0, 0, 0]


def test_what_a_client_kept_of_a_round_that_did_not_count_is_void(clock, monkeypatch, tmp_path):
    """Client 0 answers the attempt at round 2 that was below the quorum, and is gone in the one that counts."""
    works = Faulty.push_messages

    def push(grid, messages):
        """A node that is gone does no work, and its state is as it was."""
        (message,) = messages
        if message.metadata.dst_node_id not in grid.gone:
            return works(grid, messages)
        message.metadata.__dict__["_message_id"] = f"lost-{len(grid.sent)}"
        grid._replies[message.metadata.message_id] = None
        return [message.metadata.message_id]

    def played(attempts, folder):
        monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / folder))
        tries = []

        def befall(grid, kind, turn):
            if (kind, turn) == ("train", 2):
                tries.append(turn)
                grid.gone |= {101, 102} if len(tries) < attempts else {100}
            if kind == "train" and turn == 3:
                assert 200 in grid._contexts

        pause, update = roster.Roster.pause, roster.Roster.update

        def back(self, clients, timeout):
            self.unanswered._grid.restart(101, 201)
            self.unanswered._grid.restart(102, 202)
            pause(self, clients, timeout)

        def joined(self, timeout, failed=()):
            if (
                len(tries) == attempts
                and 100 in self.unanswered._grid.gone
                and 200 not in self.unanswered._grid._contexts
            ):
                self.unanswered._grid.restart(100, 200)
            update(self, timeout, failed)

        with monkeypatch.context() as patch:
            patch.setattr(Faulty, "push_messages", push)
            patch.setattr(roster.Roster, "pause", back)
            patch.setattr(roster.Roster, "update", joined)
            return Played(clock, befall, method__name="moon")

    once_below, at_once = played(2, "below"), played(1, "at-once")
    assert once_below.clients == at_once.clients == [[0, 1, 2], [1, 2], [0, 1, 2], [0, 1, 2]]
    assert once_below.bits() == at_once.bits()
