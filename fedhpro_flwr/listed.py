"""Clients or nodes, and what is said of them, in a log or on a screen: they may be a thousand."""

from __future__ import annotations

from collections.abc import Sequence

MOST_NAMED = 10


def listed(kind: str, numbers: Sequence[int]) -> str:
    """For a sentence."""
    named = ", ".join(map(str, numbers[:MOST_NAMED]))
    more = len(numbers) - MOST_NAMED
    return f"{kind} {named}" + (f" and {more} more" if more > 0 else "")


def first_ten(sentences: Sequence[str]) -> list[str]:
    """Those, and how many more there are."""
    more = len(sentences) - MOST_NAMED
    return [*sentences[:MOST_NAMED], *([f"{more} more"] if more > 0 else [])]
