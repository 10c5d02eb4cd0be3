"""The in-process engine: Flower's Grid over clients that are called as functions, one after the other.

The same apps, messages and handlers as through `flwr run`, and bit-equal results; no Ray, no SuperLink, and a debugger
works.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping
from logging import ERROR

from flwr.app import Context, Error, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.common.logger import log
from flwr.serverapp import Grid, ServerApp
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity

from fedhpro_flwr.config import Scalar
from fedhpro_flwr.engine import RESIDENT
from fedhpro_flwr.records import CLIENT_RAISED

FIRST_NODE_ID = 100  # so that nobody mistakes a node id for a partition id
OWN_FILES = {"data.path": "", "data.weights": "", "data.tokenizer": "hashing"}  # what these are without files


class InProcessGrid(Grid):
    """`num_nodes` clients of one ClientApp. They share the message objects with the server and must not change them."""

    def __init__(self, client_app: ClientApp, num_nodes: int, run_config: Mapping[str, Scalar] | None = None) -> None:
        # Outside a Flower process nobody has said which run this is, and Message() insists on knowing.
        TaskIdentity.run_id = TaskIdentity.node_id = TaskIdentity.task_id = 1
        self._app = client_app
        self._replies: dict[str, Message] = {}
        self._contexts = {
            FIRST_NODE_ID + i: Context(
                run_id=1,
                node_id=FIRST_NODE_ID + i,
                node_config={"partition-id": i, "num-partitions": num_nodes},
                state=RecordDict(),
                run_config=dict(run_config or {}),
            )
            for i in range(num_nodes)
        }

    def set_run(self, run: Run) -> None:
        """Does nothing: there is only one run."""

    @property
    def run(self) -> Run:
        """Not available: no run is kept."""
        raise NotImplementedError("the in-process engine has no run record")

    def create_message(
        self, content: RecordDict, message_type: str, dst_node_id: int, group_id: str, ttl: float | None = None
    ) -> Message:
        """Make a message as Flower does."""
        return Message(content, dst_node_id, message_type, ttl=ttl, group_id=group_id)

    def get_node_ids(self) -> Iterable[int]:
        """All nodes; they are always there."""
        return list(self._contexts)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Run the client of each message now and keep its reply."""
        ids = []
        for message in messages:
            message_id = uuid.uuid4().hex
            message.metadata.__dict__["_message_id"] = message_id
            ids.append(message_id)
            try:
                self._replies[message_id] = self._app(message, self._contexts[message.metadata.dst_node_id])
            except Exception as error:  # any engine answers the server so if a client raises
                log(ERROR, "%s: %s", type(error).__name__, error, exc_info=error)
                self._replies[message_id] = Message(
                    Error(code=CLIENT_RAISED, reason=f"{type(error).__name__}: {error}"), reply_to=message
                )
        return ids

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Replies that have not been pulled yet."""
        return [self._replies.pop(message_id) for message_id in list(message_ids) if message_id in self._replies]

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
        """Push and pull; there is nothing to wait for."""
        return self.pull_messages(self.push_messages(messages))


def run_in_process(
    server_app: ServerApp, client_app: ClientApp, num_nodes: int, run_config: Mapping[str, Scalar]
) -> None:
    """Run a server app against in-process clients; its exceptions come through."""
    if any(run_config.get(key, none) != none for key, none in OWN_FILES.items()):
        RESIDENT.entries.clear()  # the process may have had another run, and these files may have changed since
    grid = InProcessGrid(client_app, num_nodes, run_config)
    server_app(grid, Context(run_id=1, node_id=1, node_config={}, state=RecordDict(), run_config=dict(run_config)))
