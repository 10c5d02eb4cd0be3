"""A thousand replies through the strategy's own `aggregate_train`: its CPU seconds, and the memory it needs.

This is the one case of many clients that is run in full and not scaled. It has a process of its own, whose peak memory
is the figure, and runs only if the machine has that much to spare.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
from flwr.app import ConfigRecord, Context, Message
from flwr.clientapp import ClientApp
from measure import once, peak_memory
from round_phases import CLIENT_IMAGES, SETTINGS, Measured

from fedhpro_flwr.config import RunConfig, Scalar
from fedhpro_flwr.exchange import GlobalModel
from fedhpro_flwr.launch.in_process import InProcessGrid
from fedhpro_flwr.records import Update, array_record, asked_partition, pack_update
from fedhpro_flwr.server.replies import bytes_of, released
from fedhpro_flwr.server.roster import Roster
from fedhpro_flwr.server.seats import Seats
from server_app.strategy import FedHProStrategy

CLIENTS, CLASSES = 1000, 10
SPARE = 2e9  # bytes, left to others
BUSY = 1.5e9  # bytes of Python, torch and one client's work


@dataclass(frozen=True)
class Held:
    """What the server needed for all replies of a round."""

    clients: int
    seconds: float  # CPU, of `aggregate_train`
    of_system: float  # the part of it that the operating system took, for fresh memory
    reply_bytes: float  # of tensors, all clients together
    before: float  # bytes of the process with all messages received
    peak: float  # bytes


def thousand_replies(settings: Mapping[str, Scalar], reply_bytes: float) -> Held | None:
    """Run it; None where the memory is not there.

    Args:
        settings: of the method.
        reply_bytes: of one reply.
    """
    if available() < reply_bytes * CLIENTS + BUSY + SPARE:
        return None
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(aggregate, dict(settings)).result()


@dataclass(frozen=True)
class AllThere:
    """Every client is there, on a node of its own: client -> node id."""

    nodes: Mapping[int, int]
    architectures: tuple[str, ...] = ()

    def draw(self, server_round: int) -> Seats:
        """All of them."""
        return Seats(self.nodes, {})


def aggregate(settings: Mapping[str, Scalar]) -> Held:
    """A round's replies, every model another, into the strategy; to be called in a new process."""
    torch.set_num_threads(1)
    client, app = Measured(settings, CLASSES), ClientApp()

    @app.train()
    def train(message: Message, context: Context) -> Message:
        partition = asked_partition(message)
        model = {name: tensor + tensor.new_tensor(partition / CLIENTS) for name, tensor in client.sent.items()}
        return Message(pack_update(Update(partition, CLIENT_IMAGES, model, client.upload)), reply_to=message)

    grid = InProcessGrid(app, CLIENTS)
    strategy = FedHProStrategy(RunConfig.parse({**SETTINGS, **settings, "partition.num-partitions": CLIENTS}))
    strategy.model, strategy.state, strategy.num_classes = GlobalModel(client.sent), client.state, CLASSES
    strategy.clients.roster = cast(Roster, AllThere(dict(enumerate(grid.get_node_ids()))))
    messages = strategy.configure_train(1, array_record(client.sent), ConfigRecord(), grid)
    replies = list(grid.send_and_receive(messages))
    size = sum(bytes_of(replies).values())
    before = peak_memory()
    system = os.times().system
    taken = once(lambda: strategy.aggregate_train(1, released(replies)))
    system = os.times().system - system
    assert len(strategy.replies.good) == CLIENTS, strategy.replies.set_aside[:1]
    return Held(CLIENTS, taken.cpu, system, size, before, peak_memory())


def available() -> float:
    """Bytes that a new process may take."""
    lines = Path("/proc/meminfo").read_text(encoding="utf-8").splitlines()
    return next((1024.0 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable")), 0.0)
