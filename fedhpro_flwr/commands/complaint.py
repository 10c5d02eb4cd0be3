"""A command's sentences: on its console, or on stderr for what is wrong, so that its output can be kept apart."""

from __future__ import annotations

from rich.console import Console

SAID = "fedhpro: "  # how its sentences begin


def say(console: Console, text: str, style: str = "") -> None:
    """Print text as it is: brackets are no markup, and long lines are not folded, to be searched and copied."""
    console.print(text, style=style, markup=False, soft_wrap=True)


def complain(sentence: str, style: str = "red") -> None:
    """Print on stderr what is wrong: red for errors, yellow if the command goes on."""
    # Made at each call: a progress display, or a test, may have replaced stderr.
    Console(stderr=True, highlight=False).print(f"{SAID}{sentence}", style=style, markup=False, soft_wrap=True)
