"""Which visit of each client counted last: the client goes on from what it kept after that one, and after no other.

A visit has a name of its own, new in every attempt at a round. If its reply was lost, late or set aside, or its attempt
was below the quorum or abandoned when the run was resumed, the server never names that visit again, so what the client
kept after it is void, wherever it lies and whenever it was written.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from secrets import token_hex

NAME = re.compile(r"[0-9]{1,9}-[0-9a-f]{8}")  # it becomes the name of a file at the client

Counted = Mapping[int, str]  # client -> the name of its visit


def new_name(server_round: int) -> str:
    """A name for the visits of one attempt at a round, which no other attempt has."""
    return f"{server_round}-{token_hex(4)}"


@dataclass
class Visits:
    """The visits that count now, and those that count in the checkpoints from which the run may be resumed.

    Args:
        counted: the last visit that counted of each client that has replied well.
        saved: by round, the same in the checkpoints that exist.
    """

    counted: dict[int, str] = field(default_factory=dict)
    saved: dict[int, Counted] = field(default_factory=dict)

    def count(self, name: str, clients: Iterable[int]) -> None:
        """The replies of these clients count."""
        self.counted.update(dict.fromkeys(clients, name))

    def void(self) -> None:
        """What clients have kept so far is void: each begins anew."""
        self.counted.clear()

    def keep(self, rounds: Iterable[int]) -> None:
        """There are checkpoints of these rounds: of the one that was just written, and of earlier ones."""
        self.saved = {number: self.saved.get(number, dict(self.counted)) for number in rounds}

    @property
    def settled(self) -> int:
        """The oldest round that the run may be resumed after, 0 if none: no visit of it, or before, is made again."""
        return min(self.saved, default=0)

    def after(self, client: int) -> str:
        """The visit that a client goes on from; "" before its first."""
        return self.counted.get(client, "")

    def needed(self, client: int) -> str:
        """All visits that the client may still be asked to go on from, their names separated by spaces."""
        names = {self.after(client), *(counted.get(client, "") for counted in self.saved.values())}
        return " ".join(sorted(names - {""}))
