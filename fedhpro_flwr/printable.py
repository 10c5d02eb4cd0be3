"""Text of unknown origin on a terminal, which obeys control characters: colours, titles, lines that are overwritten.

`printable` removes these alone and keeps the rest of a name; `legible` makes one line of what a client says, `one_line`
of what an exception says.
"""

from __future__ import annotations

import unicodedata

REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
LAYOUT = "\n\t"  # harmless, and sentences of other packages have them
# These characters reverse the direction of writing, so that what is shown is not what is there.
TURNING = frozenset(map(chr, [*range(0x202A, 0x202F), *range(0x2066, 0x206A)]))
LONGEST_REASON = 500  # characters of what a reply or a node says: it goes to logs, files and screens
REFUSED = ("Cc", "Cs")  # control characters, and surrogates (halves of characters), which no stream can encode


def printable(text: str) -> str:
    """The text, with every character replaced that a terminal would obey instead of show.

    Spaces of all kinds stay, and so do joiners, which many languages need.
    """
    return "".join(REPLACEMENT if _acts(character) else character for character in text)


def legible(text: str, longest: int = LONGEST_REASON) -> str:
    """What a client says, as one line without control characters, cut if it is too long."""
    line = "".join(character if character.isprintable() else " " for character in text)
    line = " ".join(line.split())
    return line if len(line) <= longest else f"{line[: longest - 1]}…"


def one_line(error: Exception) -> str:
    """An exception's message without line breaks, to stand in a sentence."""
    return " ".join(str(error).split())


def _acts(character: str) -> bool:
    if character in LAYOUT:
        return False
    return character in TURNING or unicodedata.category(character) in REFUSED
