"""The ClientApp: who I am, train, evaluate. The visit itself is visit.py."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from flwr.app import Context, Error, Message, RecordDict
from flwr.clientapp import ClientApp

from fedhpro_flwr.client_data import ClientData
from fedhpro_flwr.config import RunConfig
from fedhpro_flwr.engine import code_fingerprint, configured_model, device_of, federation, settle
from fedhpro_flwr.models import Model
from fedhpro_flwr.nodes import UNNAMED, Introduction
from fedhpro_flwr.personal import PersonalState
from fedhpro_flwr.records import Broadcast, Task, asked_partition, pack_test, pack_update, unpack_broadcast, unpack_task

from .visit import own_test, visit  # relative: the package also answers to another name, see front_doors.py

ClientSide = Callable[[RunConfig, Task, Context], tuple[Model, ClientData]]
CLIENT_FAILED = 100  # code of an error reply whose reason is a sentence of ours


def make_client_app(client_side: ClientSide) -> ClientApp:
    """A ClientApp for the strategy.

    Args:
        client_side: gives a model of the client's architecture and the client's own samples, on one device; called
            once a message with the run's settings, the task (round, partition) and Flower's context (its `node_config`
            in a deployment). What of the model does not travel must have its initial weights: see `model.share`.
    """
    app = ClientApp()

    @app.query()
    def introduce(message: Message, context: Context) -> Message:
        """Before round 1: which client this node is, and that it has its data and a model of the right width."""
        named = f"client {context.node_config.get('partition-id', UNNAMED)}"
        return answered(message, named, lambda: who_i_am(message, context).pack())

    def who_i_am(message: Message, context: Context) -> Introduction:
        config, task = unpack_task(message)
        named = int(context.node_config.get("partition-id", UNNAMED))
        if not 0 <= named < config.partition.num_partitions:  # it will be told whom to play
            return Introduction(0, named, code_fingerprint())
        settle(config)
        model, _ = client_side(config, replace(task, partition_id=named), context)
        return Introduction(0, named, code_fingerprint(), architecture_of(config, named, context), model.width)

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
            model, data = client_side(received.config, received.task, context)
            return work(model, data, received, PersonalState.of(received.config, received.task, context))

        return answered(message, f"client {asked_partition(message)}", job)

    return app


def answered(message: Message, who: str, job: Callable[[], RecordDict]) -> Message:
    """The reply of a job; what goes wrong becomes an error reply that names this client, not a traceback far away."""
    try:
        return Message(job(), reply_to=message)
    except (ValueError, KeyError, OSError, RuntimeError) as error:
        return Message(Error(code=CLIENT_FAILED, reason=f"{who}: {error}"), reply_to=message)


def architecture_of(config: RunConfig, partition_id: int, context: Context) -> str:
    """The model a client trains: what its node config says, else what the run's groups give it.

    Raises:
        ValueError: the node config names another architecture than the one that is averaged.
    """
    mine = config.model.architecture(partition_id)
    named = str(context.node_config.get("model", "") or mine)
    if named != mine and config.model.share != "head":
        raise ValueError(
            f"the node config says model = {named!r}, but {mine} is averaged; that needs model.share = 'head'"
        )
    return named


def configured_client(config: RunConfig, task: Task, context: Context) -> tuple[Model, ClientData]:
    """The model and the partition that the run's settings describe, out of this process's cache.

    Raises:
        ValueError: this client runs other code or divides other data than the server.
    """
    if task.code and task.code != code_fingerprint():
        raise ValueError(
            f"runs other code ({code_fingerprint()}) than the server ({task.code}); is another client_app on its path?"
        )
    divided = federation(config)
    if task.data and task.data != divided.parts.fingerprint:
        raise ValueError(
            f"divides other data ({divided.parts.fingerprint}) than the server ({task.data}); are its files the same?"
        )
    model = configured_model(config, divided.data, architecture_of(config, task.partition_id, context))
    return model, divided.client(task.partition_id).to(device_of(config))


app = make_client_app(configured_client)
