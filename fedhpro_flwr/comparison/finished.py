"""Which runs of a grid are there already, and whether they are this grid's."""

from __future__ import annotations

from collections.abc import Iterable

from fedhpro_flwr.comparison.grid import NOT_COMPARED, Cell
from fedhpro_flwr.config import ConfigError
from fedhpro_flwr.recorded import read_recorded
from fedhpro_flwr.run_folder import CONFIG_FILE, SUMMARY_FILE
from fedhpro_flwr.summary import without_places

MOST_KEYS = 5  # differing keys that a refusal names


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
    found, wanted = without_places(config.flat()), without_places(cell.config.flat())
    differing = [key for key in wanted if key not in NOT_COMPARED and found[key] != wanted[key]]
    if differing:
        named = ", ".join(f"{key} = {found[key]!r} (here {wanted[key]!r})" for key in differing[:MOST_KEYS])
        more = f" and {len(differing) - MOST_KEYS} more" if len(differing) > MOST_KEYS else ""
        raise ConfigError(f"{cell.folder} holds a finished run with {named}{more}; {advice}")
