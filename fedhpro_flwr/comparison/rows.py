"""What a grid compares, as the command line writes it: rows (methods), columns (varied values) and seeds."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from fedhpro_flwr.config import ConfigError
from fedhpro_flwr.settings.from_command_line import keys_of

PRESET = "preset:"  # preset:tuned is short for fedhpro:preset=tuned
HYPER = "+hyper"  # fedproto+hyper is short for fedproto:method.prototypes=hyper
GIVEN_ELSEWHERE = {
    "seed": "the seeds are those of --seeds",
    "run-folder": "each run has its own folder under --folder",
    "results-dir": "the folder of the grid is --folder",
}


@dataclass(frozen=True)
class Row:
    """One method with its settings: a row of the table."""

    label: str
    changes: tuple[str, ...]  # key=value, as after --set
    group: str = ""  # rows of a group are one family of comparisons; an ablation has several


@dataclass(frozen=True)
class Column:
    """One choice of the varied values; the label is empty if nothing is varied."""

    label: str
    changes: tuple[str, ...]


def read_rows(text: str) -> tuple[Row, ...]:
    """`fedavg, fedhpro:preset=reference;losses.hpal=off, fedproto+hyper, preset:tuned` as rows labelled as written.

    Raises:
        ConfigError: an entry is empty, not of this form, or written twice.
    """
    rows = tuple(read_row(entry) for entry in split(text, ",", "--methods"))
    refuse_twice((row.label for row in rows), "--methods")
    return rows


def read_row(entry: str) -> Row:
    """One entry of `--methods`.

    Raises:
        ConfigError: it is empty or not of the form NAME, NAME+hyper, NAME:key=value;key=value or preset:NAME.
    """
    if entry.startswith(PRESET) and "=" not in entry:
        return Row(entry, ("method.name=fedhpro", f"preset={entry.removeprefix(PRESET)}"))
    name, colon, settings = (part.strip() for part in entry.partition(":"))
    changes = split(settings, ";", f"--methods {entry!r}") if colon else []
    method = name.removesuffix(HYPER)
    if not method or "=" in method or not all("=" in change for change in changes):
        raise ConfigError(
            f"--methods {entry!r}: write a method as NAME, NAME+hyper, NAME:key=value;key=value or preset:NAME"
        )
    plug_in = ("method.prototypes=hyper",) if name.endswith(HYPER) else ()
    row = Row(entry, (f"method.name={method}", *plug_in, *changes))
    refuse_elsewhere(row.changes, f"--methods {entry!r}")
    return row


def read_columns(varied: Sequence[str], option: str = "--vary") -> tuple[Column, ...]:
    """`key=v1,v2` for each varied key: every combination of their values, the last key fastest.

    Args:
        varied: as written on the command line.
        option: by which they were given, for the message.

    Raises:
        ConfigError: one is not of this form, a value or a key is written twice.
    """
    choices = []
    for text in varied:
        key, equals, values = (part.strip() for part in text.partition("="))
        if not key or not equals:
            raise ConfigError(f"{option} {text}: write it as key=value,value")
        changes = [f"{key}={value}" for value in split(values, ",", f"{option} {text}")]
        refuse_elsewhere(changes, f"{option} {text}")
        refuse_twice(changes, option)
        choices.append(changes)
    refuse_twice(keys_of(changes[0] for changes in choices), option)
    return tuple(Column(", ".join(chosen), chosen) for chosen in itertools.product(*choices))


def read_seeds(text: str, option: str = "--seeds") -> tuple[int, ...]:
    """`0,1,2`.

    Args:
        text: as written on the command line.
        option: by which it was given, for the message.

    Raises:
        ConfigError: one is no whole number from 0 on, or written twice.
    """
    words = split(text, ",", option)
    if not all(re.fullmatch(r"[0-9]+", word) for word in words):
        raise ConfigError(f"{option} {text}: write whole numbers from 0 on, separated by commas")
    seeds = tuple(int(word) for word in words)
    refuse_twice(map(str, seeds), option)
    return seeds


def split(text: str, separator: str, named: str) -> list[str]:
    """Parts without the blanks around them; a separator between double quotes separates nothing.

    Args:
        text: to be split.
        separator: between its parts.
        named: where the text is from, for the message.

    Raises:
        ConfigError: a part is empty.
    """
    parts = [part.strip() for part in re.split(rf'{separator}(?=(?:[^"]*"[^"]*")*[^"]*$)', text)]
    if not all(parts):
        raise ConfigError(
            f"{named}: {f'nothing stands between two {separator} of {text!r}' if text.strip() else 'it is empty'}"
        )
    return parts


def refuse_elsewhere(changes: Iterable[str], where: str) -> None:
    """Refuse changes of keys that the grid itself sets.

    Raises:
        ConfigError: one of these keys is among the changes.
    """
    for key in keys_of(changes):
        if key in GIVEN_ELSEWHERE:
            raise ConfigError(f"{where}: {key} cannot be set in a grid, {GIVEN_ELSEWHERE[key]}")


def refuse_twice(labels: Iterable[str], option: str) -> None:
    """Refuse a label that is given twice, because labels name rows, columns and folders.

    Raises:
        ConfigError: there is one.
    """
    for label, times in Counter(labels).items():
        if times > 1:
            raise ConfigError(f"{option}: {label} is written {times} times")
