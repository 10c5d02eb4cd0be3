"""The runs of a grid: rows x columns x seeds, each with its complete settings and a folder of its own."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

from fedhpro_flwr.comparison.rows import Column, Row, refuse_elsewhere
from fedhpro_flwr.config import ConfigError, RunConfig
from fedhpro_flwr.settings.flat_keys import Scalar
from fedhpro_flwr.settings.from_command_line import keys_of, prepare, read_settings
from fedhpro_flwr.settings.places import DECIDES_NOTHING, STATE_FOLDER
from fedhpro_flwr.settings.unread import unread

NOT_COMPARED = DECIDES_NOTHING | {STATE_FOLDER, "checkpoint.every"}  # places, as the folder of a grid may be moved
LONGEST = 200  # characters of a folder's name: file systems take 255 bytes

Place = tuple[str, str, int]  # labels of row and column, seed


@dataclass(frozen=True)
class Cell:
    """One run."""

    row: str
    column: str
    seed: int
    config: RunConfig

    @property
    def folder(self) -> Path:
        """Where its files go."""
        return Path(self.config.run_folder)

    @property
    def name(self) -> str:
        """The run's name in messages."""
        return run_name(self.row, self.column, self.seed)

    @property
    def settings(self) -> dict[str, Scalar]:
        """The settings that tell this run from others."""
        return {key: value for key, value in self.config.flat().items() if key not in NOT_COMPARED}


@dataclass(frozen=True)
class Chosen:
    """What `--tune` chose for a row in a column.

    Args:
        changes: key=value, as after --set.
        at_end: those of them that are the smallest or the largest number that was tried: a better one may lie beyond.
        failed: what was tried and cannot be chosen, as its runs did not all end well.
        alike: whether all that was tried did equally well with each seed, as if the row's method does not read it.
    """

    changes: tuple[str, ...]
    at_end: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()
    alike: bool = False


Choices = Mapping[tuple[str, str], Chosen]  # by the labels of row and column
NO_CHOICES: Choices = {}
NOTHING_CHOSEN = Chosen(())


@dataclass(frozen=True)
class Grid:
    """All runs. Two rows with the same settings share their runs."""

    folder: Path
    rows: tuple[Row, ...]
    columns: tuple[Column, ...]
    seeds: tuple[int, ...]
    cells: Mapping[Place, Cell]
    chosen: Choices = field(default_factory=dict)

    @property
    def runs(self) -> tuple[Cell, ...]:
        """Each run once, one seed after the other, so that whole tables of one seed come first."""
        return tuple({cell.folder: cell for cell in self.cells.values()}.values())


def build_grid(
    conf: str | None,
    changes: Sequence[str],
    *,
    rows: Sequence[Row],
    columns: Sequence[Column],
    seeds: Sequence[int],
    folder: Path,
    chosen: Choices = NO_CHOICES,
) -> Grid:
    """Every run's settings, read as `fedhpro run` reads them. Those of rows and columns, and what was chosen for these,
    override --set.

    Raises:
        ConfigError: a run cannot be started, which is named; a key is set by a row and a column, or by --set and all
            rows; or two rows would share a folder and differ in settings.
    """
    read_settings(conf, changes)  # so that a mistake in what all runs share is not blamed on one of them
    refuse_elsewhere(changes, "--set")
    if by_all := sorted(set(keys_of(changes)).intersection(*(keys_of(row.changes) for row in rows))):
        raise ConfigError(f"--set: {by_all[0]} cannot be set in a grid whose rows all set it; leave it out")
    for row in rows:
        for column in columns:
            if both := sorted(set(keys_of(row.changes)) & set(keys_of(column.changes))):
                raise ConfigError(f"{row.label} sets {both[0]}, and --vary or --tune varies it: leave one of them out")
    cells: dict[Place, Cell] = {}
    known: dict[tuple[tuple[str, Scalar], ...], Cell] = {}
    folders: dict[Path, Cell] = {}
    for seed in seeds:
        for column in columns:
            for row in rows:
                own = chosen.get((row.label, column.label), NOTHING_CHOSEN)
                below = map(slug, (column.label, ", ".join(own.changes)))  # another choice makes another run
                path = folder.joinpath(slug(row.label), *filter(None, below), f"seed-{seed}")
                changed = [*changes, *column.changes, *row.changes, *own.changes]
                cell = _cell(conf, changed, row, column, seed, path)
                same = known.setdefault(tuple(cell.settings.items()), cell)
                if same is cell and folders.setdefault(path, cell) is not cell:
                    raise ConfigError(f"{folders[path].name} and {cell.name} would share the folder {path}; rename one")
                cells[row.label, column.label, seed] = same
    return Grid(folder, tuple(rows), tuple(columns), tuple(seeds), cells, chosen)


def _cell(conf: str | None, changes: Sequence[str], row: Row, column: Column, seed: int, path: Path) -> Cell:
    try:
        config = prepare(conf, changes)
        own: dict[str, Scalar] = {"seed": seed, "run-folder": str(path), "results-dir": ""}
        # As in `fedhpro run`, so that the folder's config.toml is the same.
        own["clients.num-nodes"] = config.partition.num_partitions
        return Cell(row.label, column.label, seed, RunConfig.parse(config.flat() | own))
    except ConfigError as error:
        raise ConfigError(f"{run_name(row.label, column.label, seed)}: {error}; nothing was started") from None


def unread_in(grid: Grid, changes: Sequence[str]) -> list[str]:
    """A sentence for each setting that is given for all rows or for one, and that none of these rows' runs reads."""
    keys = [*keys_of(changes), *keys_of(grid.columns[0].changes)]
    said = unread([cell.config for cell in grid.runs], keys)
    for row in grid.rows:
        own = [grid.cells[row.label, column.label, grid.seeds[0]].config for column in grid.columns]
        said += [f"{row.label}: {sentence}" for sentence in unread(own, keys_of(row.changes))]
    return said


def run_name(row: str, column: str, seed: int) -> str:
    """A run's name in messages."""
    return " ".join(part for part in (row, column, f"seed {seed}") if part)


def slug(label: str) -> str:
    """A label as the name of a folder: letters, digits and . _ + = , - stay; a name that is too long ends in a hash."""
    name = re.sub(r"[^A-Za-z0-9._+=,-]+", "-", label).strip("-.")
    return name if len(name) <= LONGEST else f"{name[: LONGEST - 9]}-{sha256(label.encode()).hexdigest()[:8]}"
