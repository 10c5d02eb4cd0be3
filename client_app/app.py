"""The ClientApp: introduce yourself, train, evaluate. The visit itself is visit.py."""

from __future__ import annotations

from collections.abc import Callable

from flwr.app import Context, Message, RecordDict
from flwr.clientapp import ClientApp

import fedhpro_flwr.torch_at_once  # noqa: F401 - first: the others import torch
from fedhpro_flwr.client.configured_client import configured_client
from fedhpro_flwr.client.faults import answered
from fedhpro_flwr.client.personal import PersonalState
from fedhpro_flwr.client.preparation import ClientSide, introduction, prepared
from fedhpro_flwr.client.privacy import reasons_kept
from fedhpro_flwr.client_data import ClientData
from fedhpro_flwr.device import settle
from fedhpro_flwr.models import Model
from fedhpro_flwr.records import Broadcast, asked_partition, pack_test, pack_update, unpack_broadcast, unpack_task

from .visit import own_test, visit  # relative: the package also answers to another name, see front_doors.py

Work = Callable[[Model, ClientData, Broadcast, PersonalState], RecordDict]


def make_client_app(client_side: ClientSide) -> ClientApp:
    """A ClientApp for the strategy.

    Args:
        client_side: gives a model of the client's architecture and the client's own samples, on one device; called
            per message with the run's settings, the task (round, partition) and Flower's context (its `node_config` in
            a deployment). The part of the model that does not travel must have its initial weights: see `model.share`.
    """
    app = ClientApp()

    @app.query()
    def introduce(message: Message, context: Context) -> Message:
        """Say which client this node is and whether it could train: before round 1, and whenever the server asks."""
        config, task = unpack_task(message)
        return Message(introduction(client_side, config, task, context).pack(), reply_to=message)

    @app.train()
    def train(message: Message, context: Context) -> Message:
        """One visit."""
        return at_work(
            message,
            context,
            lambda model, data, received, state: pack_update(visit(model, data, received, state=state)),
        )

    @app.evaluate()
    def test(message: Message, context: Context) -> Message:
        """The received model on this client's own test data."""
        return at_work(
            message,
            context,
            lambda model, data, received, state: pack_test(own_test(model, data, received, state=state)),
        )

    def at_work(message: Message, context: Context, work: Work) -> Message:
        def job() -> RecordDict:
            received = unpack_broadcast(message)
            settle(received.config)
            with reasons_kept(received.config.privacy.withhold), received.draws.torch_everywhere():
                model, data, state = prepared(client_side, received.config, received.task, context)
                return work(model, data, received, state)

        return answered(message, f"client {asked_partition(message)}", job)

    return app


app = make_client_app(configured_client)
