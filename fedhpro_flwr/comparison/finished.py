"""Which runs of a grid are there already, and whether they are this grid's."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from fedhpro_flwr.comparison.grid import NOT_COMPARED, Cell
from fedhpro_flwr.config import ConfigError, Scalar
from fedhpro_flwr.runs.run_folder import CONFIG_FILE, PARTITION_FILE, SUMMARY_FILE
from fedhpro_flwr.settings.differing import differing, without_places
from fedhpro_flwr.settings.recorded import read_recorded

DATA = "data."  # section of the settings


def is_finished(cell: Cell) -> bool:
    """Whether its folder holds a finished run: the summary is written last."""
    return (cell.folder / SUMMARY_FILE).exists()


def unfinished(cells: Iterable[Cell]) -> list[Cell]:
    """Those still to be run; what a stopped or failed run left of one is begun anew.

    Raises:
        ConfigError: a folder holds a finished run with other settings, or one whose settings cannot be read.
    """
    remaining = []
    for cell in cells:
        if is_finished(cell):
            refuse_other(cell)
        else:
            remaining.append(cell)
    return remaining


def of_other_samples(cells: Iterable[Cell]) -> dict[Path, str]:
    """The finished runs whose data has changed since, by folder, each with a sentence.

    Settings tell data by the name of its file alone. Of runs with the same settings of data, that of the newest counts.
    """
    groups: dict[tuple[tuple[str, Scalar], ...], list[tuple[float, Cell, str]]] = {}
    for cell in filter(is_finished, cells):
        if content := content_of(cell):
            data = ((key, value) for key, value in without_places(cell.config.flat()).items() if key.startswith(DATA))
            when = (cell.folder / SUMMARY_FILE).stat().st_mtime
            groups.setdefault(tuple(data), []).append((when, cell, content))
    others = {}
    for group in groups.values():
        _, newest, wanted = max(group, key=lambda run: run[0])
        for _, cell, content in group:
            if content != wanted:
                others[cell.folder] = (
                    f"it was run on other samples than {newest.name}, though data.* is the same: a file has changed; "
                    f"delete {cell.folder} to have it run again"
                )
    return others


def content_of(cell: Cell) -> str:
    """Fingerprint of the samples that a finished run divided; "" where it is not known, as with data at the clients."""
    try:
        return str(json.loads((cell.folder / PARTITION_FILE).read_text(encoding="utf-8")).get("content", ""))
    except (OSError, ValueError, AttributeError):
        return ""


def refuse_other(cell: Cell) -> None:
    """A result of other settings is not mixed in.

    Raises:
        ConfigError: the finished run in the cell's folder has other settings; the message names them.
    """
    path = cell.folder / CONFIG_FILE
    advice = "a result of other settings is not mixed in: name another --folder, or delete this one"
    try:
        config = read_recorded(path)
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"{cell.folder} holds a finished run whose {CONFIG_FILE} is no good ({error}); {advice}"
        ) from None
    if other := differing(config.flat(), cell.config.flat(), NOT_COMPARED):
        raise ConfigError(f"{cell.folder} holds a finished run with {other}; {advice}")
