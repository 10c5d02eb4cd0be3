"""Sentences of a command: on its console, and on stderr what is wrong, so that its output can be kept apart from it."""

from __future__ import annotations

from rich.console import Console

SAID = "fedhpro: "  # how its sentences begin


def say(console: Console, text: str, style: str = "") -> None:
    """Text as it is: brackets are no markup, and a long line stays one, to be searched and copied."""
    console.print(text, style=style, markup=False, soft_wrap=True)


def complain(sentence: str, style: str = "red") -> None:
    """Tell what is wrong; in yellow what is not the end."""
    # Made each time: a progress display, or a test, may have put another stderr in its place.
    Console(stderr=True, highlight=False).print(f"{SAID}{sentence}", style=style, markup=False, soft_wrap=True)
