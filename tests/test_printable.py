"""Names that somebody else wrote do nothing to a terminal, and stay legible in every script."""

from __future__ import annotations

import pytest

from fedhpro_flwr.printable import printable


@pytest.mark.parametrize("acts", ["\x1b[31m", "\x07", "\r", "\x7f", "\x9b2J", "\u202e", "\u2066", "\udcff"])
def test_what_a_terminal_would_obey_is_replaced(acts: str) -> None:
    assert printable(f"cat{acts}") == f"cat\ufffd{acts[1:]}"


@pytest.mark.parametrize("text", ["cat", "a b\tc\nd", "猫\u3000犬", "caf\u00e9\u00a0noir", "می\u200cخواهم", "🐈"])
def test_writing_stays(text: str) -> None:
    assert printable(text) == text
