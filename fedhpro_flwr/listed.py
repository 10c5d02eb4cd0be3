"""Long lists cut short for a log or a screen: there may be a thousand clients, nodes or classes."""

from __future__ import annotations

from collections.abc import Sequence

MOST_NAMED = 10


def listed(kind: str, things: Sequence[object]) -> str:
    """As "client 0, 3, 7", or the first ten "and 5 more"."""
    return f"{kind} {ten_of(things)}"


def ten_of(things: Sequence[object]) -> str:
    """As "0, 3, 7", or the first ten "and 5 more"."""
    more = len(things) - MOST_NAMED
    return ", ".join(map(str, things[:MOST_NAMED])) + (f" and {more} more" if more > 0 else "")


def first_ten(sentences: Sequence[str]) -> list[str]:
    """The first ten, and how many more there are."""
    more = len(sentences) - MOST_NAMED
    return [*sentences[:MOST_NAMED], *([f"{more} more"] if more > 0 else [])]
