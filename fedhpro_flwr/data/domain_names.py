"""The setting `data.domains`: names separated by commas."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from fedhpro_flwr.data.registry import DataSource
from fedhpro_flwr.listed import ten_of


def chosen_domains(
    source: DataSource, available: Collection[str], *, default: Sequence[str] = (), there_are: str = ""
) -> tuple[str, ...]:
    """The domains that `source.domains` names, in its order.

    Args:
        source: its `domains` is read; spaces and empty names do not count.
        available: what may be named.
        default: taken if none is named; empty means all that are available.
        there_are: what the message about an unknown name lists; empty means all that are available.

    Raises:
        ValueError: a domain that is not available, or one named twice.
    """
    names = tuple(name for name in map(str.strip, source.domains.split(",")) if name)
    for position, name in enumerate(names):
        if name not in available:
            listed = there_are or ten_of(tuple(available))
            raise ValueError(f"data.domains = {source.domains!r}: {name!r} is unknown, there are {listed}")
        if name in names[:position]:
            raise ValueError(f"data.domains = {source.domains!r}: {name!r} stands twice, name each domain once")
    return names or tuple(default or available)
