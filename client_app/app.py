"""The ClientApp: who I am, train, evaluate. The visit itself is visit.py."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from flwr.app import Context, Message, RecordDict
from flwr.clientapp import ClientApp

from fedhpro_flwr.client.configured_client import architecture_of, configured_client, names_architecture
from fedhpro_flwr.client.faults import FAULTS, answered, in_words
from fedhpro_flwr.client.node_data import refuse_without_client
from fedhpro_flwr.client.personal import PersonalState
from fedhpro_flwr.client.privacy import reasons_kept
from fedhpro_flwr.client_data import ClientData
from fedhpro_flwr.code_fingerprint import code_fingerprint
from fedhpro_flwr.config import RunConfig
from fedhpro_flwr.device import settle
from fedhpro_flwr.methods import build_method
from fedhpro_flwr.models import Model, refuse_other_features
from fedhpro_flwr.nodes import Introduction, own_partition
from fedhpro_flwr.records import (
    Broadcast,
    Task,
    asked_partition,
    pack_test,
    pack_update,
    unpack_broadcast,
    unpack_task,
)
from fedhpro_flwr.seeding import Draws

from .visit import own_test, visit  # relative: the package also answers to another name, see front_doors.py

ClientSide = Callable[[RunConfig, Task, Context], tuple[Model, ClientData]]


def make_client_app(client_side: ClientSide) -> ClientApp:
    """A ClientApp for the strategy.

    Args:
        client_side: gives a model of the client's architecture and the client's own samples, on one device; called
            once a message with the run's settings, the task (round, partition) and Flower's context (its `node_config`
            in a deployment). What of the model does not travel must have its initial weights: see `model.share`.
    """
    app = ClientApp()

    def prepared(config: RunConfig, task: Task, context: Context) -> tuple[Model, ClientData, PersonalState]:
        """What a visit needs, looked at before any time is spent on training."""
        model, data = client_side(config, task, context)
        data.refuse_unfit(model.num_classes)
        return model, data, PersonalState.of(config, task, context)

    @app.query()
    def introduce(message: Message, context: Context) -> Message:
        """Before round 1: which client this node is, and whether it could train."""
        config, task = unpack_task(message)
        me = own_partition(context)
        plays = 0 <= me < config.partition.num_partitions  # else it will be told whom to play
        known = Introduction(0, me, code_fingerprint())
        try:
            with reasons_kept(config.privacy.withhold):
                if plays:
                    settle(config)
                    build_method(config)  # an app of somebody's own may lack the file that registers it
                    model, data, _ = prepared(config, replace(task, partition_id=me), context)
                    if held := data.train or data.test:
                        refuse_other_features(model, data.encoder_inputs(held.inputs[:1]))
                    told = client_side is configured_client or names_architecture(config, context)
                    name = architecture_of(config, me, context) if told else ""
                    known = replace(known, architecture=name, width=model.width)
                else:
                    refuse_without_client(config, context)
        except FAULTS as error:
            who = f"client {me}" if plays else f"node {context.node_id}"
            known = replace(known, problem=in_words(who, error))
        return Message(known.pack(), reply_to=message)

    @app.train()
    def train(message: Message, context: Context) -> Message:
        """One visit."""

        def work(model: Model, data: ClientData, received: Broadcast, state: PersonalState) -> RecordDict:
            return pack_update(visit(model, data, received, state=state))

        return at_work(message, context, work)

    @app.evaluate()
    def test(message: Message, context: Context) -> Message:
        """The received model on this client's own test data."""

        def work(model: Model, data: ClientData, received: Broadcast, state: PersonalState) -> RecordDict:
            return pack_test(own_test(model, data, received, state=state))

        return at_work(message, context, work)

    def at_work(
        message: Message,
        context: Context,
        work: Callable[[Model, ClientData, Broadcast, PersonalState], RecordDict],
    ) -> Message:
        def job() -> RecordDict:
            received = unpack_broadcast(message)
            settle(received.config)
            draws = Draws(received.config.seed, received.task.server_round, received.task.partition_id)
            with reasons_kept(received.config.privacy.withhold), draws.torch_everywhere():
                model, data, state = prepared(received.config, received.task, context)
                return work(model, data, received, state)

        return answered(message, f"client {asked_partition(message)}", job)

    return app


app = make_client_app(configured_client)
