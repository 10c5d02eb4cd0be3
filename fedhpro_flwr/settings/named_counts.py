"""`mnist=3, usps=6`: a count for each name, as one setting writes them."""

from __future__ import annotations

from fedhpro_flwr.settings.flat_keys import ConfigError

LONGEST = 6  # digits of a count: a mistyped one should not ask for the memory of a million vectors


def named_counts(text: str, key: str) -> dict[str, int]:
    """Parse `name=count, name=count`; the order is kept, an empty text is an empty dict.

    Args:
        text: the value of the setting.
        key: the setting, for the error.

    Raises:
        ConfigError: not of this form, a name twice, or a count below 1.
    """
    counts: dict[str, int] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, _, count = (piece.strip() for piece in part.partition("="))
        if not name or not count.isdecimal() or len(count) > LONGEST or int(count) < 1:
            raise ConfigError(f"{key} = {text!r}: write it as name=count, name=count with counts from 1")
        if name in counts:
            raise ConfigError(f"{key} = {text!r}: {name} comes twice")
        counts[name] = int(count)
    return counts


def dealt_in_turn(counts: dict[str, int]) -> list[str]:
    """One name a client, dealt like cards until every name has its count: a=2, b=1 gives a, b, a.

    In turn, because the clients may be ordered by something else, such as their domains, with which it must not agree.
    """
    rounds = range(max(counts.values(), default=0))
    return [name for turn in rounds for name, count in counts.items() if turn < count]
