"""Runs of the real strategy on small clients, on a grid that changes what they reply.

run = Played(meddle_with(2, lambda message, reply: None), rounds=1)
assert run.reports[0].set_aside == ["client 2: did not reply"]
"""

from __future__ import annotations

import torch
from confusion import evaluation_of
from flwr.app import ConfigRecord, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from torch import nn

from client_app.app import make_client_app
from fedhpro_flwr.client_data import ClientData
from fedhpro_flwr.code_fingerprint import code_fingerprint
from fedhpro_flwr.config import RunConfig
from fedhpro_flwr.data import Split
from fedhpro_flwr.launch.in_process import InProcessGrid
from fedhpro_flwr.models import Model
from fedhpro_flwr.records import OwnTest, Update, array_record, pack_update, tensors_of, unpack_broadcast
from fedhpro_flwr.runs import reports
from server_app.strategy import FedHProStrategy

CLIENTS, CLASSES, WIDTH, INPUTS = 4, 5, 3, 4  # nobody holds class 4
CONFIG = {
    "rounds": 2,
    "partition.num-partitions": CLIENTS,
    "local.epochs": 1,
    "local.batch-size": 4,
    "hyper-prototypes.prototypes-per-class": 2,
    "hyper-prototypes.matching-steps": 3,
    "class-gradients.augment": "none",
    "calibration.prototypes-per-class": 3,
    "calibration.matching-steps": 2,
    "calibration.epochs": 2,
}


def new_model(seed=0):
    """With a BatchNorm, so that a reply holds a counter and a variance too."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Model(
            nn.Sequential(nn.Linear(INPUTS, WIDTH), nn.BatchNorm1d(WIDTH), nn.ReLU()), nn.Linear(WIDTH, CLASSES)
        )


def client_data(partition):
    """8, 10, 12 and 14 samples, of a client's own class and the next client's."""
    draw = torch.Generator().manual_seed(partition)
    held = torch.tensor([partition, (partition + 1) % CLIENTS])
    samples = 8 + 2 * partition
    split = Split(torch.randn(samples, INPUTS, generator=draw), held[torch.arange(samples) % 2])
    return ClientData(split, split.subset(torch.arange(4)), (0.0,), (1.0,))


CLIENT_APP = make_client_app(lambda config, task, context: (new_model(1), client_data(task.partition_id)))


class Meddling(InProcessGrid):
    """Replies pass through `meddle(kind, round, partition, message, reply) -> replies`, and then `order`."""

    def __init__(self, app=CLIENT_APP, nodes=CLIENTS, meddle=None, order=list):
        super().__init__(app, nodes)
        self.meddle, self.order, self.seen = meddle, order, []

    def send_and_receive(self, messages, *, timeout=None):
        messages = list(messages)
        replies = []
        for message, reply in zip(messages, super().send_and_receive(messages, timeout=timeout), strict=True):
            kind = message.metadata.message_type
            if kind == "query":
                replies.append(reply)
                continue
            config = message.content["config"]
            self.seen.append((kind, config["task.server-round"], config["task.partition-id"]))
            replies += self.meddle(*self.seen[-1], message, reply) if self.meddle else [reply]
        return self.order(replies)


class Played:
    """A finished run: its strategy and what an observer was told."""

    def __init__(self, grid=None, *, test=None, **settings):
        self.reports: list[reports.RoundReport] = []
        self.config = RunConfig.parse(CONFIG, **settings)
        self.strategy = FedHProStrategy(self.config, test=test, observers=[self])
        self.grid = grid or Meddling()
        self.result = self.strategy.start(self.grid, array_record(new_model().state_dict()))

    def on_round(self, report):
        self.reports.append(report)

    def bits(self):
        """Everything that the server would save, to be compared bit for bit."""
        named = {**self.strategy.model.shared, **{f"state {k}": v for k, v in self.strategy.tensors().items()}}
        return {name: value.contiguous().numpy().tobytes() for name, value in named.items()}


def meddle_with(client, change, *, server_round=1):
    """A grid on which one client's reply in one round is changed; None takes it away."""

    def meddle(kind, turn, partition, message, reply):
        if (kind, turn, partition) != ("train", server_round, client):
            return [reply]
        changed = change(message, reply)
        return [] if changed is None else changed if isinstance(changed, list) else [changed]

    return Meddling(meddle=meddle)


def rewritten(reply, message, **records):
    """The reply with some records replaced; None leaves one out."""
    content = dict(reply.content) | {name.replace("_", "-"): record for name, record in records.items()}
    return Message(
        RecordDict({name: record for name, record in content.items() if record is not None}), reply_to=message
    )


def model_with(reply, name, change):
    """The record of the reply's model, one tensor of it changed."""
    tensors = tensors_of(reply.content["model"])
    return array_record(tensors | {name: change(tensors[name])})


def numbers(reply, **changes):
    """The record of the reply's numbers, some of them changed."""
    return MetricRecord(dict(reply.content["metrics"]) | {key.replace("_", "-"): v for key, v in changes.items()})


def tensor_of(reply, name):
    """The tensor of a record that holds one, under the record's own name."""
    return tensors_of(reply.content[name])[name]


def constant_app(shift=lambda partition: float(partition), examples=lambda partition: partition + 1):
    """Clients that reply with the received model plus a number."""
    app = ClientApp()

    @app.query()
    def introduce(message, context):
        who = MetricRecord({"partition-id": int(context.node_config["partition-id"])})
        return Message(
            RecordDict({"metrics": who, "config": ConfigRecord({"code": code_fingerprint()})}), reply_to=message
        )

    @app.train()
    def train(message, context):
        received = unpack_broadcast(message)
        partition = received.task.partition_id
        model = {k: v + shift(partition) if v.is_floating_point() else v for k, v in received.model.items()}
        confusion = torch.tensor([[[1, 1 + partition], [0, 0]]])
        own = OwnTest(partition, evaluation_of(confusion, 0.5))
        update = Update(partition, examples(partition), model, {}, {"train-loss": float(partition)}, own)
        return Message(pack_update(update), reply_to=message)

    @app.evaluate()
    def test(message, context):
        return Message(RecordDict({"metrics": MetricRecord({"nothing": 1})}), reply_to=message)

    return app


def moved_by(factor):
    """A change of a client's reply: it sends the head w + factor (w_k - w)."""

    def change(message, reply):
        sent = tensors_of(message.content["model"])
        moved = {
            name: sent[name] + factor * (value - sent[name]) if name.startswith("head.") else value
            for name, value in tensors_of(reply.content["model"]).items()
        }
        return rewritten(reply, message, model=array_record(moved))

    return change
