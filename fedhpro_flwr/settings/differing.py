"""The settings of two runs compared: those that decide a result, and how a sentence names the ones that differ."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from fedhpro_flwr.settings.flat_keys import Scalar
from fedhpro_flwr.settings.places import without_places

MOST_KEYS = 5  # that a sentence names


def differing(there: Mapping[str, Scalar], here: Mapping[str, Scalar], ignored: Collection[str] = ()) -> str:
    """`key = there (here ...), ...` for the settings that differ; "" if none do.

    Args:
        there: flat settings of an earlier run; every key of `here` is among them.
        here: flat settings of the present run.
        ignored: keys that may differ.
    """
    was, now = without_places(there), without_places(here)
    keys = [key for key in now if key not in ignored and was[key] != now[key]]
    named = ", ".join(f"{key} = {was[key]!r} (here {now[key]!r})" for key in keys[:MOST_KEYS])
    return named + (f" and {len(keys) - MOST_KEYS} more" if len(keys) > MOST_KEYS else "")
