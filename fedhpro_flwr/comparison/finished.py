"""Which runs of a grid are finished already, and whether they have this grid's settings and samples."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from fedhpro_flwr.comparison.grid import NOT_COMPARED, Cell
from fedhpro_flwr.config import ConfigError, RunConfig, Scalar
from fedhpro_flwr.data import DataSource, load
from fedhpro_flwr.runs.run_folder import CONFIG_FILE, SUMMARY_FILE, content_of
from fedhpro_flwr.settings.places import FILES, differing
from fedhpro_flwr.settings.recorded import read_recorded

DATA = "data."  # section of the settings


def is_finished(cell: Cell) -> bool:
    """Whether the cell's folder holds a finished run: the summary is written last."""
    return (cell.folder / SUMMARY_FILE).exists()


def unfinished(cells: Iterable[Cell]) -> list[Cell]:
    """The cells still to be run.

    Raises:
        ConfigError: a folder holds a finished run with other settings or of other samples, or one whose settings cannot
            be read.
    """
    remaining = []
    moved = []
    for cell in cells:
        if not is_finished(cell):
            remaining.append(cell)
        elif places_of(refuse_other(cell)) != places_of(cell.config):
            moved.append(cell)
    refuse_other_samples(moved)
    return remaining


def of_other_samples(cells: Iterable[Cell]) -> dict[Path, str]:
    """The finished runs whose data has changed since: a sentence for each folder.

    Among cells with the same settings of data, including the places of files, the newest run decides what the data is.
    """
    groups: dict[tuple[tuple[str, Scalar], ...], list[tuple[float, Cell, str]]] = {}
    for cell in filter(is_finished, cells):
        if content := content_of(cell.folder):
            data = ((key, value) for key, value in cell.config.flat().items() if key.startswith(DATA))
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


def places_of(config: RunConfig) -> list[Scalar]:
    """The full paths of the files that are otherwise compared by their names alone."""
    return [config.flat()[key] for key in FILES]


def refuse_other_samples(moved: Iterable[Cell]) -> None:
    """Compare samples where the files' places differ: files of one name in two places need not have the same content.

    Data is read once for all cells with the same settings of it. If a file is not on this machine, the run is accepted.

    Args:
        moved: cells whose finished runs had their files in other places.

    Raises:
        ConfigError: the cell's files hold other samples than the run divided, or cannot be used.
    """
    known: dict[DataSource, str] = {}
    for cell in moved:
        source, content = cell.config.data, content_of(cell.folder)
        if not content:
            continue
        if source not in known:
            try:
                known[source] = load(source).content
            except OSError:
                known[source] = ""
            except ValueError as error:
                raise ConfigError(f"{cell.name}: {error}; nothing was started") from None
        if known[source] not in ("", content):
            raise ConfigError(
                f"{cell.folder} holds a finished run of other samples than data.path = {source.path!r} has, a file of "
                "the same name elsewhere; a result of other samples is not mixed in: name another --folder, or delete "
                "this one"
            )


def refuse_other(cell: Cell) -> RunConfig:
    """The settings of the finished run in a cell's folder, which must be the cell's.

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
    return config
