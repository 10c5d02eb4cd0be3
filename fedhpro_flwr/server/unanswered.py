"""Messages that were not answered in time: their nodes are left alone until they answer, and what they say is void.

Flower's `send_and_receive` asks for the replies to its own messages only, so a reply that comes after the timeout lies
in the SuperLink and disturbs no later round. It is fetched here to learn that its node is free again, and thrown away.
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
    until: float  # of time.monotonic(): from then on the message may be lost


class Unanswered:
    """What is left open by the rounds so far.

    A node that has not answered by the timeout is sent nothing new for as long again: it is still at work, or hangs,
    and a second message would wait behind the first one. After that it is asked who it is, and is given work again once
    it says so: one that hangs for good costs a run one timeout. Its clients are set aside at once in the meantime.
    """

    def __init__(self, grid: Grid) -> None:
        self._grid = grid
        self._open: dict[str, Open] = {}
        self._late: list[str] = []

    def send_and_receive(self, messages: list[Message], timeout: float) -> list[Message]:
        """As the grid's, noting whose time was up."""
        gives_up = time.time() + timeout  # Flower's wait goes by this clock, which may be set in the meantime
        replies = list(self._grid.send_and_receive(messages, timeout=timeout))
        if time.time() >= gives_up:  # else what has no reply was never sent: Flower found the request too large
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
        """Fetch what was answered too late."""
        for reply in self._grid.pull_messages(list(self._open)) if self._open else []:
            late = self._open.pop(reply.metadata.reply_to_message_id, None)
            if late and not reply.has_error():  # an error says that the node or the message is gone
                self._late.append(f"client {late.client}: its answer to round {late.server_round} came too late")

    def overdue(self) -> set[int]:
        """The nodes whose message may be lost."""
        now = time.monotonic()
        return {message.node_id for message in self._open.values() if message.until <= now}

    def free(self, node_ids: Collection[int]) -> None:
        """These nodes answer questions: where a message is overdue it is lost."""
        lost = self.overdue().intersection(node_ids)
        self._open = {asked: message for asked, message in self._open.items() if message.node_id not in lost}

    def told(self) -> list[str]:
        """The late answers since the last call, a sentence each."""
        late, self._late = self._late, []
        return late

    def until(self, node_ids: Iterable[int]) -> float:
        """When all of these nodes are overdue, of time.monotonic(); minus infinity if none is left alone."""
        wanted = set(node_ids)
        return max((m.until for m in self._open.values() if m.node_id in wanted), default=-math.inf)

    @property
    def busy(self) -> Mapping[int, str]:
        """The nodes that are left alone, and why."""
        return {m.node_id: f"its node has not answered round {m.server_round} yet" for m in self._open.values()}
