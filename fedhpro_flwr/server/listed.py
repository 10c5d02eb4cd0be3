"""Clients or nodes in a line of the log, which may be many."""

from __future__ import annotations

from collections.abc import Sequence

MOST_NAMED = 10


def listed(kind: str, numbers: Sequence[int]) -> str:
    """For a sentence."""
    named = ", ".join(map(str, numbers[:MOST_NAMED]))
    more = len(numbers) - MOST_NAMED
    return f"{kind} {named}" + (f" and {more} more" if more > 0 else "")
