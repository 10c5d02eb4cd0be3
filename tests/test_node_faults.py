"""Nodes that die, hang, come back under another id, join late or answer late: what the rounds make of them."""

from __future__ import annotations

import logging

import pytest
import torch
from flwr.app import Error, Message, RecordDict
from torch import nn

from client_app.app import make_client_app
from fedhpro_flwr import inquiries, roster, unanswered
from fedhpro_flwr.client_data import ClientData
from fedhpro_flwr.config import ConfigError, RunConfig
from fedhpro_flwr.data import Split
from fedhpro_flwr.in_process import InProcessGrid
from fedhpro_flwr.models import Model
from fedhpro_flwr.nodes import Introduction
from fedhpro_flwr.records import array_record
from fedhpro_flwr.replies import QuorumError
from fedhpro_flwr.seeding import sample_partitions
from server_app.strategy import FedHProStrategy

CLIENTS, CLASSES, WIDTH, INPUTS = 3, 3, 4, 5
CONFIG = {
    "rounds": 4,
    "partition.num-partitions": CLIENTS,
    "local.epochs": 1,
    "local.batch-size": 4,
    "hyper-prototypes.prototypes-per-class": 2,
    "hyper-prototypes.matching-steps": 2,
    "clients.quorum": 0.6,
}
UNAVAILABLE = 5  # Flower's error code of a node without heartbeats


def new_model(width=WIDTH):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Model(nn.Sequential(nn.Linear(INPUTS, width), nn.ReLU()), nn.Linear(width, CLASSES))


def client_data(client):
    draw = torch.Generator().manual_seed(client)
    split = Split(torch.randn(8, INPUTS, generator=draw), torch.randint(0, CLASSES, (8,), generator=draw))
    return ClientData(split, split.subset(torch.arange(4)), (0.0,), (1.0,))


CLIENT_APP = make_client_app(lambda config, task, context: (new_model(), client_data(task.partition_id)))


class Clock:
    """Time that passes only where something is waited for."""

    def __init__(self):
        self.now = 0.0

    def monotonic(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds


@pytest.fixture(autouse=True)
def clock(monkeypatch):
    clock = Clock()
    for module in (inquiries, roster, unanswered):
        monkeypatch.setattr(module, "time", clock)
    return clock


class Faulty(InProcessGrid):
    """A grid whose nodes can be changed between messages: `befall(grid, kind, round)` is called before they are sent.

    A node in `hanging` works but its answer lies ready only when the node is taken out again; one in `gone` answers as
    Flower does for a node without heartbeats and is no longer listed.
    """

    def __init__(self, clock, befall, app=CLIENT_APP, nodes=CLIENTS):
        super().__init__(app, nodes)
        self.clock, self.befall = clock, befall
        self.hanging, self.gone, self.held, self.sent = set(), set(), {}, []

    def get_node_ids(self):
        return [node_id for node_id in self._contexts if node_id not in self.gone]

    def restart(self, node_id, new_id, **node_config):
        """The node is gone, and one with its node config is there under another id."""
        self.gone.add(node_id)
        context = self._contexts[node_id]
        self._contexts[new_id] = type(context)(
            1, new_id, {**context.node_config, **node_config}, RecordDict(), dict(context.run_config)
        )

    def pull_messages(self, message_ids):
        for message_id in list(self.held):
            if self.held[message_id][0] not in self.hanging:
                self._replies[message_id] = self.held.pop(message_id)[1]
        return super().pull_messages(message_ids)

    def send_and_receive(self, messages, *, timeout=None):
        messages = list(messages)
        kind = messages[0].metadata.message_type if messages else "nothing"
        turn = messages[0].content["config"]["task.server-round"] if messages else 0
        self.befall(self, kind, turn)
        replies = []
        for message in messages:
            node_id = message.metadata.dst_node_id
            self.sent.append((kind, turn, node_id))
            (message_id,) = self.push_messages([message])
            if node_id in self.gone:
                replies.append(Message(Error(code=UNAVAILABLE, reason="Error: Node Unavailable"), reply_to=message))
                self._replies.pop(message_id)
            elif node_id in self.hanging:
                self.held[message_id] = (node_id, self._replies.pop(message_id))
        replies += super().pull_messages([message.metadata.message_id for message in messages])
        if len(replies) < len(messages):
            self.clock.sleep(timeout)
        return replies


class Played:
    """A run: what its observer was told, and where it stopped, if so."""

    def __init__(self, clock, befall=lambda *_: None, *, app=CLIENT_APP, nodes=CLIENTS, fails=False, **settings):
        self.reports = []
        self.grid = Faulty(clock, befall, app, nodes)
        self.strategy = FedHProStrategy(RunConfig.parse(CONFIG, **settings), observers=[self])
        self.lost = None
        try:
            self.strategy.start(self.grid, array_record(new_model().state_dict()))
        except QuorumError as lost:
            if not fails:
                raise
            self.lost = lost

    def on_round(self, report):
        self.reports.append(report)

    @property
    def clients(self):
        """The clients whose replies counted, by round."""
        return [[int(client["partition-id"]) for client in report.clients] for report in self.reports]

    @property
    def set_aside(self):
        return [list(report.set_aside) for report in self.reports]

    def bits(self):
        named = {**self.strategy.model.shared, **self.strategy.tensors()}
        return {name: value.contiguous().numpy().tobytes() for name, value in named.items()}


def once(*events):
    """`befall` of (kind, round, what) that happens the first time its messages are sent."""
    left = list(events)

    def befall(grid, kind, turn):
        for event in [event for event in left if event[:2] == (kind, turn)]:
            left.remove(event)
            event[2](grid)

    return befall


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
        "client 1 (cnn) has features of width 5, the server's head of width 4; give every model the same width "
        "(model.width)"
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


def test_a_node_that_stays_silent_is_asked_again_after_another_timeout(clock):
    def befall(grid, kind, turn):
        if kind == "train":
            grid.clock.sleep(0.7 * 3600)  # what a round takes
        if (kind, turn) == ("train", 1):
            grid.hanging.add(101)

    run = Played(clock, befall)
    assert [turn for kind, turn, node_id in run.grid.sent if kind == "train" and node_id == 101] == [1, 4]


def test_a_node_that_answers_nothing_delays_a_round_once(clock):
    def silent(grid):
        grid.restart(102, 555)
        grid.gone.discard(102)
        grid.hanging.add(555)

    run = Played(clock, once(("train", 1, silent), ("train", 3, lambda grid: grid.hanging.clear())))
    assert clock.now == roster.JOIN_SECONDS
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


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"method__name": "scaffold"},
        {"model__share": "head"},
        {"method__name": "moon", "checkpoint__every": 0},
        {"clients__sampling": "stream", "clients__per_round": 2},
    ],
    ids=["fedhpro", "scaffold", "head", "moon", "stream"],
)
def test_a_repeated_round_gives_the_bits_that_it_would_have_given(clock, tmp_path, settings):
    """The client that did reply to the first attempt has kept state of the round: it does not count."""
    settings = {"clients__quorum": 1.0, **settings}
    whole = Played(clock, clients__state_path=str(tmp_path / "whole"), **settings)

    clock.sleep = lambda seconds: grids[-1].gone.clear()
    grids = []

    def befall(grid, kind, turn):
        if grid not in grids:
            grids.append(grid)
        if (kind, turn) == ("train", 3) and not any(entry[:2] == ("train", 3) for entry in grid.sent):
            grid.gone.update({101, 102})

    repeated = Played(clock, befall, clients__state_path=str(tmp_path / "repeated"), **settings)
    assert repeated.bits() == whole.bits()
    assert repeated.clients == whole.clients
    assert any(reason.startswith("attempt 1: client ") for reason in repeated.set_aside[2])
    assert [report.server_round for report in repeated.reports] == [1, 2, 3, 4]


def test_below_the_quorum_the_run_stops_after_its_repeats_and_says_so(clock):
    run = Played(clock, once(("train", 3, lambda grid: grid.gone.update({101, 102}))), fails=True)
    assert len(run.reports) == 2
    assert str(run.lost) == (
        "round 3: 1 of 3 clients replied well, clients.quorum = 0.6 needs 2; client 1: its node is gone; "
        "client 2: its node is gone"
    )
    assert clock.now == pytest.approx(2 * roster.PAUSE_SECONDS, abs=2 * roster.POLL_SECONDS)
    assert [node_id for kind, turn, node_id in run.grid.sent if (kind, turn) == ("train", 3)] == [
        100,
        101,
        102,
        100,
        100,
    ]


@pytest.mark.parametrize("retries", [0, 1])
def test_a_round_is_repeated_as_often_as_the_settings_say(clock, retries):
    run = Played(
        clock, once(("train", 1, lambda grid: grid.gone.update({101, 102}))), fails=True, clients__retries=retries
    )
    assert len([entry for entry in run.grid.sent if entry[0] == "train" and entry[2] == 100]) == 1 + retries


def test_a_round_whose_clients_fail_by_themselves_is_not_repeated(clock):
    def client_side(config, task, context):
        if task.server_round == 2 and task.partition_id:
            raise ValueError("the disk is full") if task.partition_id == 1 else IndexError("a bug")
        return new_model(), client_data(task.partition_id)

    run = Played(clock, app=make_client_app(client_side), fails=True)
    assert str(run.lost).endswith("needs 2; client 1: the disk is full; client 2: IndexError: a bug")
    assert len([entry for entry in run.grid.sent if entry[:2] == ("train", 2)]) == CLIENTS


def test_an_answer_to_the_first_attempt_does_not_count_in_the_second(clock):
    clock.sleep = lambda seconds: (setattr(clock, "now", clock.now + seconds), grids and grids[-1].hanging.clear())
    grids = []

    def befall(grid, kind, turn):
        if not grids:
            grids.append(grid)
        if (kind, turn) == ("train", 2) and not any(entry[:2] == ("train", 2) for entry in grid.sent):
            grid.hanging.update({101, 102})

    run = Played(clock, befall)
    assert run.bits() == Played(clock).bits()
    assert run.set_aside[1] == [
        "attempt 1: client 1: did not reply",
        "attempt 1: client 2: did not reply",
        "client 1: its answer to round 2 came too late",
        "client 2: its answer to round 2 came too late",
    ]


def test_without_any_node_that_names_a_client_there_is_no_run_on_the_nodes_own_data(clock):
    def nameless(grid, kind, turn):
        for context in grid._contexts.values():
            context.node_config["partition-id"] = -1

    with pytest.raises(ConfigError, match=r"^partition\.scheme = 'nodes': no node names its client"):
        Played(clock, nameless, partition__scheme="nodes", data__classes="3", data__input_shape="5", data__name="npz")
