"""Text of unknown origin on a terminal, which obeys what it is sent: colours, titles, lines that are overwritten.

`printable` keeps a name as it is but for that; `legible` makes a line of what a client says, `one_line` of what an
exception says.
"""

from __future__ import annotations

import unicodedata

REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
LAYOUT = "\n\t"  # harmless, and sentences of other packages have them
# They turn the direction of writing around: what is shown is then not what is there.
TURNING = frozenset(map(chr, [*range(0x202A, 0x202F), *range(0x2066, 0x206A)]))
LONGEST_REASON = 500  # of what is told of a reply or of a node: it goes to logs, files and screens
REFUSED = ("Cc", "Cs")  # control characters, and halves of characters, which no stream can encode


def printable(text: str) -> str:
    """The text with every character replaced that would do something else than be seen.

    Spaces of all kinds and joiners, which many languages write with, stay.
    """
    return "".join(REPLACEMENT if _acts(character) else character for character in text)


def legible(text: str, longest: int = LONGEST_REASON) -> str:
    """What a client says, as one line without control characters, cut where it is too long."""
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
