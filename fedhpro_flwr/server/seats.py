"""Which of the clients that were drawn can be asked, and at which node."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Seats:
    """The clients drawn for a round."""

    nodes: Mapping[int, int]  # client -> node id, in drawn order: the clients that are asked
    absent: Mapping[int, str]  # client -> why it is not asked

    @property
    def clients(self) -> list[int]:
        """All clients that were drawn."""
        return [*self.nodes, *self.absent]
