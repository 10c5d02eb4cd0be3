"""Long lists cut short for a log or a screen: there may be a thousand clients or nodes."""

from __future__ import annotations

from collections.abc import Sequence

MOST_NAMED = 10


def listed(kind: str, numbers: Sequence[int]) -> str:
    """As "client 0, 3, 7", or ten of them "and 5 more"."""
    named = ", ".join(map(str, numbers[:MOST_NAMED]))
    more = len(numbers) - MOST_NAMED
    return f"{kind} {named}" + (f" and {more} more" if more > 0 else "")


def first_ten(sentences: Sequence[str]) -> list[str]:
    """The first ten, and how many more there are."""
    more = len(sentences) - MOST_NAMED
    return [*sentences[:MOST_NAMED], *([f"{more} more"] if more > 0 else [])]
