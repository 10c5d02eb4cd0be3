"""A good reply of a client, whole or with some of its records replaced."""

from __future__ import annotations

import torch
from flwr.app import Message, RecordDict

from fedhpro_flwr.records import Update, array_record, pack_update
from fedhpro_flwr.server.reply_checks import Expected

MODEL = {
    "encoder.weight": torch.tensor([[1.5, -2.0, 1e-40], [3.0, 0.1, -0.0]]),
    "encoder.batches": torch.tensor(7),
    "encoder.running_var": torch.tensor([1.0, 0.0]),
    "head.weight": torch.ones(4, 2),
    "head.bias": torch.zeros(4),
}
SENT = {
    "class-gradients": torch.tensor([[0.5, 0.25], [1.0, -1.0]]),
    "class-ids": torch.tensor([3, 0]),
    "class-counts": torch.tensor([5, 1]),
}
EXPECTED = Expected(MODEL, {"class-gradients": ("P", 2), "class-ids": ("P",), "class-counts": ("P",)}, 4)


def to_client(content):
    """The message that the server sends."""
    return Message(content, dst_node_id=7, message_type="train")


def reply_with(content):
    """The reply to such a message."""
    return Message(content, reply_to=to_client(RecordDict()))


def reply(**changes):
    """A good reply with some records replaced; None leaves one out."""
    records = dict(pack_update(Update(2, 6, MODEL, SENT, {"train-loss": 0.5})))
    records |= {name.replace("_", "-"): value for name, value in changes.items()}
    return reply_with(RecordDict({name: value for name, value in records.items() if value is not None}))


def model_with(**changes):
    """The record of the model with some tensors replaced; None leaves one out. `__` stands for a dot."""
    model = MODEL | {name.replace("__", "."): value for name, value in changes.items()}
    return array_record({name: value for name, value in model.items() if value is not None})
