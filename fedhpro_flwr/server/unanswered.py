"""Messages that were not answered in time: their nodes get no work until they answer, and a late answer is void.

Flower's `send_and_receive` asks for the replies to its own messages only, so a reply that comes after the timeout stays
in the SuperLink and disturbs no later round. It is fetched here to learn that its node is free again, and discarded.
"""

from __future__ import annotations

import math
import time
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from flwr.app import Message
from flwr.serverapp import Grid

from fedhpro_flwr.records import asked_partition, asked_round


@dataclass(frozen=True)
class Open:
    """A message without an answer."""

    node_id: int
    client: int
    server_round: int
    until: float  # by time.monotonic(); from then on it is overdue: the message may be lost


class Unanswered:
    """The messages of the rounds so far that are still unanswered.

    A node that has not answered by the timeout is sent nothing new for as long again: it is still at work, or hangs,
    and a second message would wait behind the first one. After that it is asked who it is, and gets work again once it
    answers: a node that hangs for good costs a run one timeout. In the meantime its clients are set aside at once.
    """

    def __init__(self, grid: Grid) -> None:
        self._grid = grid
        self._open: dict[str, Open] = {}
        self._late: list[str] = []

    def send_and_receive(self, messages: list[Message], timeout: float) -> list[Message]:
        """The grid's `send_and_receive`; messages that were not answered in time are noted."""
        gives_up = time.time() + timeout  # Flower's wait uses this clock, which may be set in the meantime
        replies = list(self._grid.send_and_receive(messages, timeout=timeout))
        if time.time() >= gives_up:  # else a message without a reply was never sent: Flower found it too large
            until = time.monotonic() + timeout
            answered = {reply.metadata.reply_to_message_id for reply in replies}
            self._open |= {
                message.metadata.message_id: Open(
                    message.metadata.dst_node_id, asked_partition(message), asked_round(message), until
                )
                for message in messages
                if message.metadata.message_id not in answered
            }
        return replies

    def look(self) -> None:
        """Fetch answers that came too late."""
        for reply in self._grid.pull_messages(list(self._open)) if self._open else []:
            late = self._open.pop(reply.metadata.reply_to_message_id, None)
            if late and not reply.has_error():  # an error says that the node or the message is gone
                self._late.append(f"client {late.client}: its answer to round {late.server_round} came too late")

    def overdue(self) -> set[int]:
        """The nodes with a message that may be lost."""
        now = time.monotonic()
        return {message.node_id for message in self._open.values() if message.until <= now}

    def free(self, node_ids: Collection[int]) -> None:
        """These nodes have answered a question, so their overdue messages are lost: forget them."""
        lost = self.overdue().intersection(node_ids)
        self._open = {asked: message for asked, message in self._open.items() if message.node_id not in lost}

    def told(self) -> list[str]:
        """The late answers since the last call, one sentence each."""
        late, self._late = self._late, []
        return late

    def until(self, node_ids: Iterable[int]) -> float:
        """When the last of these nodes becomes overdue, by time.monotonic(); minus infinity if all have answered."""
        wanted = set(node_ids)
        return max((m.until for m in self._open.values() if m.node_id in wanted), default=-math.inf)

    @property
    def busy(self) -> Mapping[int, str]:
        """The nodes that get no work now, and why."""
        return {m.node_id: f"its node has not answered round {m.server_round} yet" for m in self._open.values()}
