"""The files that a grid leaves beside its runs: table.csv, runs.csv, table.md and table.tex."""

from __future__ import annotations

import csv
import io
import itertools
from collections.abc import Mapping, Sequence

from fedhpro_flwr.comparison.grid import Grid, Place, run_name
from fedhpro_flwr.comparison.measures import TARGET, RunNumbers
from fedhpro_flwr.comparison.panels import notes, panels
from fedhpro_flwr.comparison.table import Entry, Table
from fedhpro_flwr.comparison.table_text import latex, markdown
from fedhpro_flwr.whole_file import write_whole

RUNS_FILE = "runs.csv"
TABLE_HEADS = (
    "group", "method", "varied", "measure", "unit", "mean", "deviation", "n",
    "baseline", "difference", "seeds-better", "pairs", "p", "p-holm", "significant",
)  # fmt: skip


def write_files(grid: Grid, table: Table, runs: Mapping[Place, RunNumbers], missing: Mapping[Place, str]) -> None:
    """Write all four, each whole or not at all.

    Args:
        grid: what was asked for.
        table: its numbers.
        runs: the numbers of the finished runs.
        missing: why the other runs have none.
    """
    shown, said = panels(table), [f"{run_name(*place)}: {why}" for place, why in missing.items()]
    contents = {
        "table.csv": table_csv(table),
        RUNS_FILE: runs_csv(grid, runs, missing),
        "table.md": markdown(shown, notes(table), said),
        "table.tex": latex(shown, notes(table), said),
    }
    for name, content in contents.items():
        write_whole(grid.folder / name, content.encode())


def runs_elsewhere(grid: Grid) -> list[str]:
    """The names of the runs that the tables in the grid's folder have and this grid does not."""
    path = grid.folder / RUNS_FILE
    try:
        lines = list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8"))))
        places = [(line["method"], line["varied"], int(line["seed"])) for line in lines]
    except (OSError, ValueError, LookupError, TypeError):
        return []  # there are no tables, or somebody has changed them
    return [run_name(*place) for place in places if place not in grid.cells]


def table_csv(table: Table) -> str:
    """Tidy: a line for each row, varied value and measure; accuracies in percent, an empty field for no number."""
    places = itertools.product(table.columns, table.rows, table.measures)
    entries = (table.entries[row.label, column, measure.key] for column, row, measure in places)
    return _csv(TABLE_HEADS, [_line(entry, table.baseline) for entry in entries if _belongs(entry, table)])


def _belongs(entry: Entry, table: Table) -> bool:
    """Whether an entry has a line: if the row has runs, only for measures that these have; without runs, always."""
    return bool(entry.runs) or entry.measure.key == TARGET or not table.runs(entry.row.label, entry.column)


def _line(entry: Entry, baseline: str) -> list[object]:
    against = entry.against
    return [
        entry.row.group,
        entry.row.label,
        entry.column,
        entry.measure.key,
        entry.measure.unit,
        entry.mean,
        entry.deviation,
        entry.runs,
        baseline,
        against and against.difference,
        against and against.better,
        against and against.pairs,
        against.p_value if against and entry.measure.is_tested else None,
        entry.p_corrected,
        "" if entry.p_corrected is None else "yes" if entry.is_significant else "no",
    ]


def runs_csv(grid: Grid, runs: Mapping[Place, RunNumbers], missing: Mapping[Place, str]) -> str:
    """A line for each run: how it ended, where it lies, and all its measures."""
    keys = list(dict.fromkeys(key for run in runs.values() for key in run.values))
    lines: list[list[object]] = []
    for place, cell in grid.cells.items():
        run = runs.get(place)
        numbers = [run.values.get(key) if run else None for key in keys]
        state = "finished" if run else missing.get(place, "missing")
        chosen = "; ".join(grid.chosen[place[:2]].changes) if grid.chosen else None
        lines.append([*place, chosen, state, cell.folder.relative_to(grid.folder), *numbers])
    return _csv(("method", "varied", "seed", "chosen", "state", "folder", *keys), lines)


def _csv(heads: Sequence[str], lines: Sequence[Sequence[object]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(heads)
    writer.writerows(lines)  # None becomes an empty field, and a float is written so that it is read back the same
    return text.getvalue()
