"""Nodes that restart under their id as another client's, or mended: they are asked again who they are."""

from __future__ import annotations

import logging

import pytest
from faulty_grid import WIDTH, Clock, Faulty, Played, client_data, new_model, once

from client_app.app import make_client_app
from fedhpro_flwr.introduction import Introduction
from fedhpro_flwr.server import inquiries


@pytest.fixture(autouse=True)
def clock(monkeypatch):
    return Clock.in_place_of_time(monkeypatch)


def changed(grid, node_id, **node_config):
    """The node restarts with its key, so quickly that the SuperLink never misses it."""
    grid._contexts[node_id].node_config.update(node_config)
    grid.clock.sleep(inquiries.AGAIN_SECONDS)


OWN_DATA = {"partition__scheme": "nodes", "data__classes": "3", "data__input_shape": "5", "data__name": "npz"}


def test_a_node_that_named_no_client_of_the_run_and_now_does_is_asked_again(clock, caplog):
    caplog.set_level(logging.INFO, logger="flwr")
    events = once(("train", 2, lambda grid: changed(grid, 102, **{"partition-id": 2})))

    def mistaken(grid, kind, turn):
        if kind == "query" and turn == 0 and not grid.sent:
            grid._contexts[102].node_config["partition-id"] = 20
        events(grid, kind, turn)

    run = Played(clock, mistaken, rounds=5, **OWN_DATA)
    assert run.clients == [[0, 1], [0, 1], [0, 1], [0, 1, 2], [0, 1, 2]]  # asked before round 3, heard before round 4
    assert "client 2 joined, as node 102" in [record.getMessage() for record in caplog.records]
    assert [node for kind, _, node in run.grid.sent if kind == "query"] == [100, 101, 102]  # no round waited for it


def test_a_node_that_plays_nobody_is_asked_again_every_half_minute_at_most(clock):
    asked = []

    def befall(grid, kind, turn):
        if not grid.sent:
            grid._contexts[102].node_config["partition-id"] = 20
        if kind == "train":
            grid.clock.sleep(inquiries.AGAIN_SECONDS / 2)

    class Counting(Faulty):
        def push_messages(self, messages):
            messages = list(messages)
            asked.extend(m.metadata.dst_node_id for m in messages if m.metadata.message_type == "query")
            return super().push_messages(messages)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("faulty_grid.Faulty", Counting)
        run = Played(clock, befall, rounds=6, **OWN_DATA)
    assert run.clients == [[0, 1]] * 6
    assert asked == [100, 101, 102] + [102] * 3


def test_a_node_with_other_code_that_is_brought_up_to_date_under_its_id_plays_again(clock, monkeypatch, caplog):
    mine = Introduction.pack

    def restart(grid):
        grid.restart(101, 555)
        monkeypatch.setattr(
            Introduction, "pack", lambda self: mine(Introduction(0, self.partition_id, "feed", "cnn", WIDTH))
        )

    def mended(grid):
        monkeypatch.setattr(Introduction, "pack", mine)
        grid.clock.sleep(inquiries.AGAIN_SECONDS)

    run = Played(clock, once(("train", 1, restart), ("train", 3, mended)), rounds=5)
    assert run.clients == [[0, 2]] * 4 + [[0, 1, 2]]


def test_a_node_whose_client_fails_since_it_is_another_clients_now_plays_that_one(clock, caplog):
    """Client 2's machine is gone for good; client 1's is given its data and its number, and keeps its key."""

    def client_side(config, task, context):
        if (mine := context.node_config["partition-id"]) != task.partition_id:
            raise ValueError(f"the node that is to play it holds the data of client {mine} alone")
        return new_model(), client_data(mine)

    events = once(
        ("train", 1, lambda grid: grid.gone.add(102)),
        ("train", 2, lambda grid: changed(grid, 101, **{"partition-id": 2})),
    )
    run = Played(clock, events, app=make_client_app(client_side), rounds=5, clients__quorum=0.3, **OWN_DATA)
    assert run.clients == [[0, 1], [0], [0], [0, 2], [0, 2]]
    assert run.set_aside[1][0] == "client 1: the node that is to play it holds the data of client 2 alone"
    assert run.set_aside[3] == ["client 1: its node is gone"]
    said = [record.getMessage() for record in caplog.records]
    assert "node 101 played client 1 and says partition-id = 2 now" in said


def test_a_node_whose_client_another_one_names_is_asked_again_though_it_never_fails(clock, caplog):
    """Where settings divide the data any node can play any client: the one that is client 2's now goes on as 1."""
    caplog.set_level(logging.INFO, logger="flwr")

    def moved(grid):
        grid.gone.add(102)
        grid.restart(101, 555)
        grid.gone.discard(101)
        grid._contexts[101].node_config["partition-id"] = 2

    def befall(grid, kind, turn):
        if kind == "train":
            grid.clock.sleep(inquiries.AGAIN_SECONDS)  # what a round takes
        events(grid, kind, turn)

    events = once(("train", 2, moved))
    run = Played(clock, befall, rounds=5)
    assert run.clients == [[0, 1, 2], [0, 1], [0, 1], [0, 1], [0, 1, 2]]  # heard of before 3, asked before 4
    assert [node for kind, turn, node in run.grid.sent if (kind, turn) == ("train", 5)] == [100, 555, 101]
    said = [record.getMessage() for record in caplog.records]
    assert {"client 1 is back, as node 555", "client 2 is back, as node 101"} <= set(said)


def test_a_node_that_stood_in_is_asked_again_while_a_named_clients_node_is_gone(clock, caplog):
    """It named no client, is given the missing one's number in a restart that the SuperLink never missed, and goes on
    as stand-in without a failure. While all nodes are there nobody is asked: a question costs a process."""
    caplog.set_level(logging.INFO, logger="flwr")
    asked = []

    def befall(grid, kind, turn):
        if not grid.sent:
            grid._contexts[102].node_config["partition-id"] = -1
        if kind == "train":
            grid.clock.sleep(inquiries.AGAIN_SECONDS)  # what a round takes
        events(grid, kind, turn)

    class Counting(Faulty):
        def push_messages(self, messages):
            messages = list(messages)
            asked.extend(
                (self.sent[-1][1], m.metadata.dst_node_id)
                for m in messages
                if m.metadata.message_type == "query" and self.sent[-1][0] != "query"
            )
            return super().push_messages(messages)

    events = once(
        ("train", 2, lambda grid: grid.gone.add(101)),
        ("train", 4, lambda grid: grid._contexts[102].node_config.update({"partition-id": 1})),
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("faulty_grid.Faulty", Counting)
        run = Played(clock, befall, rounds=8)
    assert run.clients == [[0, 1, 2], *[[0, 2]] * 4, *[[0, 1, 2]] * 3]
    assert [node for kind, turn, node in run.grid.sent if (kind, turn) == ("train", 8)] == [100, 102, 102]
    assert asked == [(3, 102), (4, 102), (5, 102)]  # missed before 3, heard of before 6
    assert "client 1 is back, as node 102" in [record.getMessage() for record in caplog.records]


def test_two_nodes_that_are_each_others_clients_now_are_no_conflict(clock, caplog):
    def client_side(config, task, context):
        if (mine := context.node_config["partition-id"]) != task.partition_id:
            raise ValueError(f"the node that is to play it holds the data of client {mine} alone")
        return new_model(), client_data(mine)

    def swap(grid):
        changed(grid, 101, **{"partition-id": 2})
        changed(grid, 102, **{"partition-id": 1})

    run = Played(
        clock, once(("train", 2, swap)), app=make_client_app(client_side), rounds=5, clients__quorum=0.3, **OWN_DATA
    )
    assert run.clients == [[0, 1, 2], [0], [0], [0, 1, 2], [0, 1, 2]]
    said = [record.getMessage() for record in caplog.records]
    assert "node 102 played client 2 and says partition-id = 1 now" in said
    assert not [line for line in said if "set aside for as long as" in line]


def test_a_node_that_lost_its_number_names_no_client(clock, caplog):
    def client_side(config, task, context):
        if context.node_config["partition-id"] < 0:
            raise ValueError("the node that is to play it holds the data of a client it does not name")
        return new_model(), client_data(task.partition_id)

    events = once(("train", 2, lambda grid: changed(grid, 101, **{"partition-id": -1})))
    run = Played(clock, events, app=make_client_app(client_side), rounds=4, **OWN_DATA)
    assert run.clients == [[0, 1, 2], [0, 2], [0, 2], [0, 2]]
    assert "node 101 played client 1 and names no client now" in [record.getMessage() for record in caplog.records]


def test_a_node_that_fails_to_say_who_it_is_is_asked_every_half_minute_at_most_and_told_once(clock, caplog):
    asked, questions = [], []

    def client_side(config, task, context):
        if context.node_config.get("broken"):
            raise TypeError("a bug")
        return new_model(), client_data(task.partition_id)

    def befall(grid, kind, turn):
        if kind == "train":
            grid.clock.sleep(10)  # a round
            if questions:
                asked.append(10 * turn)
            questions.clear()
        if (kind, turn) == ("train", 2):
            grid._contexts[101].node_config["broken"] = True

    class Counting(Faulty):
        def push_messages(self, messages):
            messages = list(messages)
            questions.extend(m for m in messages if m.metadata.message_type == "query")
            return super().push_messages(messages)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("faulty_grid.Faulty", Counting)
        run = Played(clock, befall, app=make_client_app(client_side), rounds=12)
    assert run.clients == [[0, 1, 2]] + [[0, 2]] * 11
    assert asked == [10, 40, 70, 100]  # at the start, and from then on node 101 alone
    said = [record.getMessage() for record in caplog.records]
    assert len([line for line in said if line.startswith("a node did not introduce itself")]) == 1
