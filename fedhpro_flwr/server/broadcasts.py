"""The messages of a round: one to each client that is asked, sharing the tensors that they have in common."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from flwr.app import ArrayRecord, Message

from fedhpro_flwr.config import Scalar
from fedhpro_flwr.exchange import GlobalModel
from fedhpro_flwr.records import Task, Tensors, array_record, pack_broadcast
from fedhpro_flwr.visits import Visits


def broadcasts(
    kind: str,
    nodes: Mapping[int, int],
    task: Task,
    visits: Visits,
    model: GlobalModel,
    shared: ArrayRecord,
    tensors: Tensors,
    settings: Mapping[str, Scalar],
) -> list[Message]:
    """One message to each client, in the order of `nodes`.

    Args:
        kind: "train" or "evaluate".
        nodes: client -> the node that plays it.
        task: what is asked of each, but for the client.
        visits: which of its own a client goes on from.
        model: whose encoders go to their groups.
        shared: the tensors that all clients exchange.
        tensors: what the method broadcasts, by record name.
        settings: of the run.
    """
    broadcast = {name: array_record({name: tensor}) for name, tensor in tensors.items()}
    models = {group: ArrayRecord({**array_record(encoder), **shared}) for group, encoder in model.encoders.items()}
    messages = []
    for client, node_id in nodes.items():
        own = replace(task, partition_id=client, after=visits.after(client), needed=visits.needed(client))
        content = pack_broadcast(models.get(model.group(client), shared), broadcast, settings, own)
        messages.append(Message(content, dst_node_id=node_id, message_type=kind))
    return messages
