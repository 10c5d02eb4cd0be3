"""Text of unknown origin on a terminal, which obeys what it is sent: colours, titles, lines that are overwritten."""

from __future__ import annotations

import unicodedata

REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
LAYOUT = "\n\t"  # harmless, and sentences of other packages have them
# They turn the direction of writing around: what is shown is then not what is there.
TURNING = frozenset(map(chr, [*range(0x202A, 0x202F), *range(0x2066, 0x206A)]))
REFUSED = ("Cc", "Cs")  # control characters, and halves of characters, which no stream can encode


def printable(text: str) -> str:
    """The text with every character replaced that would do something else than be seen.

    Spaces of all kinds and joiners, which many languages write with, stay.
    """
    return "".join(REPLACEMENT if _acts(character) else character for character in text)


def _acts(character: str) -> bool:
    if character in LAYOUT:
        return False
    return character in TURNING or unicodedata.category(character) in REFUSED
