"""The client that a run's settings describe: its architecture, its model, its share of the data."""

from __future__ import annotations

from flwr.app import Context

from fedhpro_flwr.client.node_data import client_data
from fedhpro_flwr.client_data import ClientData
from fedhpro_flwr.code_fingerprint import code_fingerprint
from fedhpro_flwr.config import RunConfig
from fedhpro_flwr.device import device_of
from fedhpro_flwr.engine import configured_model, federation
from fedhpro_flwr.introduction import own_partition
from fedhpro_flwr.methods import build_method
from fedhpro_flwr.models import Model
from fedhpro_flwr.records import Task
from fedhpro_flwr.settings.declared_data import DeclaredData, ShapedData
from fedhpro_flwr.settings.places import DATA_PATH


def configured_client(config: RunConfig, task: Task, context: Context) -> tuple[Model, ClientData]:
    """The model that the run's settings describe, and the client's partition or own data, from the process's cache.

    Raises:
        FileNotFoundError: the client's own data is not where it should be.
        ValueError: this client runs other code or divides other data than the server, or its own data cannot be used.
    """
    if task.code and task.code != code_fingerprint():
        raise ValueError(
            f"runs other code ({code_fingerprint()}) than the server ({task.code}); is another client_app on its path?"
        )
    shape: ShapedData
    if config.partition.at_nodes:
        shape, data = DeclaredData.of(config.data), client_data(config, task.partition_id, context)
    else:
        shape, data = divided_data(config, task, context)
    model = configured_model(config, shape, architecture_of(config, task.partition_id, context))
    return model, data.to(device_of(config))


def divided_data(config: RunConfig, task: Task, context: Context) -> tuple[ShapedData, ClientData]:
    """The run's data set, and the client's partition of it.

    Raises:
        ValueError: the data set cannot be had or is other data than the server's, or this node was given data of its
            own, which would not be used.
    """
    if place := context.node_config.get(DATA_PATH):
        raise ValueError(
            f"the node config says {DATA_PATH} = {place!r}, but partition.scheme = {config.partition.scheme!r} divides "
            "one data set that every node has; clients with data of their own need partition.scheme = 'nodes'"
        )
    divided = federation(config)
    if task.data and task.data != divided.parts.fingerprint:
        raise ValueError(
            f"divides other data ({divided.parts.fingerprint}) than the server ({task.data}); are its files the same?"
        )
    return divided.data, divided.client(task.partition_id)


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


def names_architecture(config: RunConfig, context: Context) -> bool:
    """Whether the run's groups or the node's config name a client's architecture: in an app of somebody's own the
    model need not be the one that `model.name` says."""
    return bool(config.model.groups) or bool(context.node_config.get("model"))
