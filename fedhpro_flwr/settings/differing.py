"""The settings of two runs compared: those that decide a result, and how a sentence names the ones that differ."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

from fedhpro_flwr.settings.flat_keys import Scalar

PLACES = ("data.root", "data.download")  # where files lie: may differ between machines
FILES = (
    "data.path",
    "data.weights",
    "data.tokenizer",
)  # of these the name says which they are, and the folder only where they lie
MOST_KEYS = 5  # that a sentence names


def without_places(settings: Mapping[str, Scalar]) -> dict[str, Scalar]:
    """Settings as far as they decide a result, on whatever machine: of a file its name counts, not where it lies."""
    return {
        key: Path(str(value)).name if key in FILES else value for key, value in settings.items() if key not in PLACES
    }


def differing(there: Mapping[str, Scalar], here: Mapping[str, Scalar], ignored: Collection[str] = ()) -> str:
    """`key = there (here ...), ...` of the settings that are not the same; "" where all are.

    Args:
        there: flat settings of the run that was.
        here: those at hand; of their keys `there` has every one.
        ignored: keys that may differ.
    """
    was, now = without_places(there), without_places(here)
    keys = [key for key in now if key not in ignored and was[key] != now[key]]
    named = ", ".join(f"{key} = {was[key]!r} (here {now[key]!r})" for key in keys[:MOST_KEYS])
    return named + (f" and {len(keys) - MOST_KEYS} more" if len(keys) > MOST_KEYS else "")
