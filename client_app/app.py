"""The ClientApp: who I am, train, evaluate. The visit itself is visit.py."""

from __future__ import annotations

from collections.abc import Callable

from flwr.app import ConfigRecord, Context, Error, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from fedhpro_flwr.client_data import ClientData
from fedhpro_flwr.config import RunConfig
from fedhpro_flwr.engine import code_fingerprint, device_of, federation, resident_model, settle
from fedhpro_flwr.metrics import evaluate
from fedhpro_flwr.models import Model
from fedhpro_flwr.records import CONFIG, METRICS, Broadcast, Task, pack_update, unpack_broadcast

from .visit import load, visit  # relative: the package also answers to another name, see front_doors.py

ClientSide = Callable[[RunConfig, Task, Context], tuple[Model, ClientData]]
CLIENT_FAILED = 100  # code of an error reply whose reason is a sentence of ours


def make_client_app(client_side: ClientSide) -> ClientApp:
    """A ClientApp for the strategy.

    Args:
        client_side: gives a model of the right architecture and the client's own samples, on one device; called once
            a message with the run's settings, the task (round, partition) and Flower's context (its `node_config` in
            a deployment).
    """
    app = ClientApp()

    @app.query()
    def introduce(message: Message, context: Context) -> Message:
        """Before round 1: which partition this node is."""
        which = MetricRecord({"partition-id": int(context.node_config.get("partition-id", -1))})
        code = ConfigRecord({"code": code_fingerprint()})
        return Message(RecordDict({METRICS: which, CONFIG: code}), reply_to=message)

    @app.train()
    def train(message: Message, context: Context) -> Message:
        """One visit."""
        return answer(message, context, lambda model, data, received: pack_update(visit(model, data, received)))

    @app.evaluate()
    def test(message: Message, context: Context) -> Message:
        """The received model on this client's own test data."""
        return answer(message, context, tested)

    def tested(model: Model, data: ClientData, received: Broadcast) -> RecordDict:
        load(model, received)
        result = evaluate(model, data, batch_size=received.config.evaluation.batch_size)
        numbers = {"test-correct": result.correct, "test-examples": result.examples, "test-loss": result.loss}
        return RecordDict({METRICS: MetricRecord({"partition-id": received.task.partition_id, **numbers})})

    def answer(
        message: Message, context: Context, work: Callable[[Model, ClientData, Broadcast], RecordDict]
    ) -> Message:
        """Do the work; what goes wrong becomes an error reply that names this client, not a traceback far away."""
        who = "a client"
        try:
            received = unpack_broadcast(message)
            who = f"client {received.task.partition_id}"
            settle(received.config)
            model, data = client_side(received.config, received.task, context)
            return Message(work(model, data, received), reply_to=message)
        except (ValueError, KeyError, OSError, RuntimeError) as error:
            return Message(Error(code=CLIENT_FAILED, reason=f"{who}: {error}"), reply_to=message)

    return app


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
    return resident_model(config, divided.data), divided.client(task.partition_id).to(device_of(config))


app = make_client_app(configured_client)
