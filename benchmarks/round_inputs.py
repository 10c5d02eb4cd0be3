"""The inputs to measure phases of a round on: random images of CIFAR's shape, and a reply as the server gets it."""

from __future__ import annotations

import torch
from flwr.app import Message
from flwr.supercore.task_identity import TaskIdentity

from fedhpro_flwr.client_data import ClientData
from fedhpro_flwr.data import Split
from fedhpro_flwr.records import Update, pack_update

MEAN = (0.5, 0.5, 0.5)


def images(count: int, num_classes: int) -> ClientData:
    """Random images of CIFAR's shape, as even over the classes as they can be."""
    generator = torch.Generator().manual_seed(count)
    inputs = torch.randint(0, 256, (count, 3, 32, 32), dtype=torch.uint8, generator=generator)
    return ClientData(Split(inputs, torch.arange(count) % num_classes), None, MEAN, MEAN)


def message_of(update: Update) -> Message:
    """A reply as it reaches the server."""
    TaskIdentity.run_id = TaskIdentity.node_id = TaskIdentity.task_id = 1  # Message() insists on knowing them
    return Message(pack_update(update), dst_node_id=1, message_type="train")
