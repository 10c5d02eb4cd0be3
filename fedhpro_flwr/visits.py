"""Which visit of each client counted last: what the client kept of that one, and of no other, it goes on from.

A visit has a name of its own, new in every attempt at a round. Of a reply that was lost, late or set aside, of an
attempt below the quorum or one that was abandoned when the run was resumed, the server says nothing any more, so what
its client kept of it is void wherever it lies and whenever it was written.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from secrets import token_hex

NAME = re.compile(r"[0-9]{1,9}-[0-9a-f]{8}")  # it becomes the name of a file at the client

Counted = Mapping[int, str]  # client -> the name of its visit


def new_name(server_round: int) -> str:
    """The name of the visits of one attempt at a round, as no other attempt has it."""
    return f"{server_round}-{token_hex(4)}"


@dataclass
class Visits:
    """The visits that count, now and where the run may still go on from.

    Args:
        counted: of each client that has replied well, its last one.
        saved: by round, the same as it is in the checkpoints that exist.
    """

    counted: dict[int, str] = field(default_factory=dict)
    saved: dict[int, Counted] = field(default_factory=dict)

    def count(self, name: str, clients: Iterable[int]) -> None:
        """The replies of these clients count."""
        self.counted.update(dict.fromkeys(clients, name))

    def void(self) -> None:
        """What clients have kept so far counts no more: each begins anew."""
        self.counted.clear()

    def keep(self, rounds: Iterable[int]) -> None:
        """There are checkpoints of these rounds: of the one that was just written, and of earlier ones."""
        self.saved = {number: self.saved.get(number, dict(self.counted)) for number in rounds}

    def after(self, client: int) -> str:
        """The visit that a client goes on from; "" before its first."""
        return self.counted.get(client, "")

    def needed(self, client: int) -> str:
        """All visits that the client may still be asked to go on from, names between spaces."""
        names = {self.after(client), *(counted.get(client, "") for counted in self.saved.values())}
        return " ".join(sorted(names - {""}))
