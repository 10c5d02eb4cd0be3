"""What a client checks before any time is spent: its model, its data, what it kept; and how it introduces itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from flwr.app import Context

from fedhpro_flwr.client.configured_client import architecture_of, configured_client, names_architecture
from fedhpro_flwr.client.faults import FAULTS, in_words
from fedhpro_flwr.client.node_data import refuse_without_client
from fedhpro_flwr.client.personal import PersonalState
from fedhpro_flwr.client.privacy import reasons_kept
from fedhpro_flwr.client_data import ClientData
from fedhpro_flwr.code_fingerprint import code_fingerprint
from fedhpro_flwr.config import RunConfig
from fedhpro_flwr.device import settle
from fedhpro_flwr.introduction import Introduction, own_partition
from fedhpro_flwr.methods import build_method
from fedhpro_flwr.models import Model, refuse_other_features
from fedhpro_flwr.records import Task

ClientSide = Callable[[RunConfig, Task, Context], tuple[Model, ClientData]]


def prepared(
    client_side: ClientSide, config: RunConfig, task: Task, context: Context
) -> tuple[Model, ClientData, PersonalState]:
    """What a visit needs.

    Args:
        client_side: gives a model of the client's architecture and the client's own samples.
        config: the settings of the run.
        task: what is asked of the client.
        context: Flower's, of the client's node.

    Raises:
        ValueError: the data does not fit the model, or a folder named for the state cannot be written to; and whatever
            `client_side` raises.
    """
    given = client_side(config, task, context)
    parts = list(given) if isinstance(given, tuple | list) else [given]
    model, data = parts if len(parts) == 2 else (None, None)
    if not (isinstance(model, Model) and isinstance(data, ClientData)):
        kinds = ", ".join(type(part).__name__ for part in parts)
        raise ValueError(f"client_side must give (Model, ClientData), it gave {kinds}")
    data.refuse_unfit(model.num_classes)
    return model, data, PersonalState.of(config, task, context)


def introduction(client_side: ClientSide, config: RunConfig, task: Task, context: Context) -> Introduction:
    """Which client a node is, and whether it could train; if not, a sentence says why.

    Args:
        client_side, config, task, context: as for `prepared`; the partition is the node's own, not the task's.
    """
    me = own_partition(context)
    known = Introduction(0, me, code_fingerprint())
    plays = 0 <= me < config.partition.num_partitions  # else it will be told whom to play
    try:
        with reasons_kept(config.privacy.withhold):
            if not plays:
                refuse_without_client(config, context)
                return known
            settle(config)
            build_method(config)  # an app of somebody's own may lack the file that registers it
            model, data, _ = prepared(client_side, config, replace(task, partition_id=me), context)
            if held := data.train or data.test:
                refuse_other_features(model, data.encoder_inputs(held.inputs[:1]))
            told = client_side is configured_client or names_architecture(config, context)
            name = architecture_of(config, me, context) if told else ""
            return replace(known, architecture=name, width=model.width)
    except FAULTS as error:
        who = f"client {me}" if plays else f"node {context.node_id}"
        return replace(known, problem=in_words(who, error))
