"""Runs of the real strategy on a grid whose nodes fail on command, and whose time passes only where it is waited for.

run = Played(clock, once(("train", 2, lambda grid: grid.gone.add(101))))
assert run.clients == [[0, 1, 2], [0, 2], [0, 2], [0, 2]]
"""

from __future__ import annotations

import torch
from flwr.app import Error, Message, RecordDict
from torch import nn

from client_app.app import make_client_app
from fedhpro_flwr.client_data import ClientData
from fedhpro_flwr.config import RunConfig
from fedhpro_flwr.data import Split
from fedhpro_flwr.launch.in_process import InProcessGrid
from fedhpro_flwr.models import Model
from fedhpro_flwr.records import array_record
from fedhpro_flwr.server import inquiries, roster, unanswered
from fedhpro_flwr.server.replies import QuorumError
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
    """Time that passes only where something is waited for; the wall clock may be set, to be `ahead`."""

    def __init__(self):
        self.now = self.ahead = 0.0

    def time(self):
        return self.now + self.ahead

    def monotonic(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds

    @classmethod
    def in_place_of_time(cls, monkeypatch):
        """A new clock, which the modules of the round that wait go by."""
        clock = cls()
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

    def push_messages(self, messages):
        messages = list(messages)
        message_ids = super().push_messages(messages)
        for message, message_id in zip(messages, message_ids, strict=True):
            if message.metadata.dst_node_id in self.hanging - self.gone:
                self.held[message_id] = (message.metadata.dst_node_id, self._replies.pop(message_id))
        return message_ids

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
        """Who was set aside and why, by round."""
        return [list(report.set_aside) for report in self.reports]

    def bits(self):
        """Everything that the server would save, to be compared bit for bit."""
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
