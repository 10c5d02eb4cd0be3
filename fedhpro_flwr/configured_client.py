"""The client that a run's settings describe: its architecture, its model, its share of the data."""

from __future__ import annotations

from flwr.app import Context

from fedhpro_flwr.client_data import ClientData
from fedhpro_flwr.config import RunConfig
from fedhpro_flwr.engine import code_fingerprint, configured_model, device_of, federation
from fedhpro_flwr.methods import build_method
from fedhpro_flwr.models import Model
from fedhpro_flwr.nodes import own_partition
from fedhpro_flwr.records import Task


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


def architecture_of(config: RunConfig, partition_id: int, context: Context) -> str:
    """The model a client trains: what its own node's config says, else what the run's groups give it.

    Raises:
        ValueError: the node config names another architecture than the one that is averaged.
    """
    mine = config.model.architectures(config.partition.num_partitions)[partition_id]
    named = str(context.node_config.get("model", "")) if own_partition(context) == partition_id else ""
    if named and named != mine and build_method(config).share in ("all", "group"):
        raise ValueError(
            f"the node config says model = {named!r}, but {mine} is averaged; "
            "that needs model.share = 'head' or 'nothing'"
        )
    return named or mine
