"""Divides the table into panels of few columns, ready to be written in any format."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import get_args

from fedhpro_flwr.comparison.grid import Chosen
from fedhpro_flwr.comparison.measures import DOMAIN, HEADLINES, OWN, TARGET, Measure, PanelTitle, measure_of
from fedhpro_flwr.comparison.significance import FEWEST_PAIRS
from fedhpro_flwr.comparison.table import Entry, Table
from fedhpro_flwr.comparison.tuning import FOLDER
from fedhpro_flwr.runs.reports import LAST_ROUNDS
from fedhpro_flwr.runs.summary import TEST_DATA, VALIDATION_DATA

NOTHING = "–"
BETTER, WORSE = "†", "‡"


@dataclass(frozen=True)
class Shown:
    """The text of one entry, in parts that each format joins in its own way."""

    value: str
    deviation: str = ""
    mark: str = ""
    note: str = ""
    is_best: bool = False


@dataclass(frozen=True)
class Panel:
    """A table as it is printed."""

    title: str
    heads: Sequence[str]
    lines: Sequence[tuple[str, Sequence[Shown]]]  # label of the row, a text for each head


def panels(table: Table) -> list[Panel]:
    """All panels: an overview of the varied values, then for each value accuracies, domains, costs and differences."""
    headlines = [measure for measure in table.measures if measure.key in HEADLINES]
    found = overview(table) if len(table.columns) > 1 else []
    for column in table.columns:
        for title in get_args(PanelTitle):
            shown = [m for m in table.measures if m.panel == title and _is_there(table, column, m)]
            if shown:
                heads = [(measure.title, column, measure) for measure in shown]
                found.append(_panel(table, ": ".join(filter(None, [column, _on(table, title)])), heads))
        found += [_differences(table, column, measure) for measure in headlines if _is_there(table, column, measure)]
    return [*found, *([_chosen(table)] if table.chosen else [])]


def overview(table: Table) -> list[Panel]:
    """What rows are compared by, for each of the varied values."""
    found = []
    for measure in (measure for measure in table.measures if measure.key in HEADLINES):
        if there := [column for column in table.columns if _is_there(table, column, measure)]:
            found.append(_panel(table, _on(table, titled(measure)), [(column, column, measure) for column in there]))
    return found


def _chosen(table: Table) -> Panel:
    """What `--tune` chose for each row, in each column."""
    lines = [(row.label, [_choice(table.chosen[row.label, column]) for column in table.columns]) for row in table.rows]
    return Panel("chosen on validation data", [column or "values" for column in table.columns], lines)


def _choice(chosen: Chosen) -> Shown:
    said = [f"{change} is an end" for change in chosen.at_end] + [f"{label} failed" for label in chosen.failed]
    if chosen.alike:
        said.append("all did alike: the row may not read it")
    return Shown("; ".join(chosen.changes), note="; ".join(said))


def _is_there(table: Table, column: str, measure: Measure) -> bool:
    """Whether any row has the measure; that of clients' own models is shown only if no row has it of a global one."""
    if measure.key.startswith(OWN) and _is_there(table, column, measure_of(measure.key.removeprefix(OWN))):
        return False
    if measure.key == TARGET:
        return column in table.targets
    entries = (table.entries.get((row.label, column, measure.key)) for row in table.rows)
    return any(entry and entry.runs for entry in entries)


def titled(measure: Measure) -> str:
    """A measure's title outside its panel."""
    return measure.title if measure.panel == "accuracy" else f"{measure.panel}, {measure.title}"


def _on(table: Table, title: str) -> str:
    """A title that names the test data; it names the validation data if all runs were tested on that."""
    return title.replace(TEST_DATA, VALIDATION_DATA) if table.tested_on == [VALIDATION_DATA] else title


def _panel(table: Table, title: str, heads: Sequence[tuple[str, str, Measure]]) -> Panel:
    of_one_column = len({column for _, column, _ in heads}) == 1
    lines = []
    for row in table.rows:
        entries = [table.entries[row.label, column, measure.key] for _, column, measure in heads]
        # Missing seeds are told once, beside the row's label, if they are the same in the whole panel.
        runs = table.runs(row.label, heads[0][1]) if of_one_column else None
        short = runs is not None and 0 < runs < len(table.seeds)
        label = f"{row.label} ({runs} of {len(table.seeds)} seeds)" if short else row.label
        lines.append((label, [show(entry, len(table.seeds) if runs is None else runs) for entry in entries]))
    return Panel(title, [head for head, _, _ in heads], lines)


def show(entry: Entry, runs: int) -> Shown:
    """Mean and deviation over seeds, marks for best and significance, and the seeds if not all `runs` have it."""
    note = f"{entry.runs} of {entry.seeds} seeds" if 0 < entry.runs < runs else ""
    if entry.mean is None:
        return Shown(NOTHING, note=note)
    mark = (BETTER if entry.is_better else WORSE) if entry.is_significant else ""
    if entry.measure.unit in ("bytes", "epsilon"):  # they follow from the settings: seeds hardly change them
        value = f"{entry.mean / 1e6:.3f}" if entry.measure.unit == "bytes" else f"{entry.mean:,.4g}"
        return Shown(value, note=note, is_best=entry.is_best)
    digits = 3 if entry.measure.unit == "seconds" else 1
    deviation = "" if entry.deviation is None else f"{entry.deviation:.{digits}f}"
    return Shown(f"{entry.mean:.{digits}f}", deviation, mark, note, entry.is_best)


def _differences(table: Table, column: str, measure: Measure) -> Panel:
    """The numbers behind the marks: difference, seeds in which the row is better, and p before and after correction."""
    lines = []
    for row in table.rows:
        entry = table.entries[row.label, column, measure.key]
        against = entry.against
        texts = [NOTHING if against else "baseline", *[NOTHING] * 3]
        if against and against.difference is not None:
            p_values = map(_p_value, (against.p_value, entry.p_corrected))
            texts = [f"{against.difference:+.1f}", f"{against.better} of {against.pairs}", *p_values]
        lines.append((row.label, [Shown(text) for text in texts]))
    title = ": ".join(filter(None, [column, f"{_on(table, titled(measure))}, against {table.baseline}"]))
    return Panel(title, ["difference", "seeds better", "p", "p (Holm)"], lines)


def _p_value(p: float | None) -> str:
    """A p-value with three digits; a smaller one is not shown as zero."""
    if p is None:
        return NOTHING
    return f"{p:.3f}" if p >= 0.001 else "< 0.001"


def notes(table: Table) -> list[str]:
    """Sentences that a reader of the numbers needs."""
    seeds, units = len(table.seeds), "Accuracies are in percent."
    groups = [row.group for row in table.rows]
    said = [f"{units} Mean ± sample deviation over {seeds} seeds." if seeds > 1 else f"{units} One seed."]
    if seeds < FEWEST_PAIRS:
        said.append(f"With fewer than {FEWEST_PAIRS} seeds nothing is said about significance.")
    else:
        said.append(
            f"{BETTER} significantly better, {WORSE} significantly worse than {table.baseline}: "
            f"paired t-test over seeds, 5 %, Holm-corrected over the rows{' of a group' if any(groups) else ''}."
        )
    if any(m.key.startswith(OWN) and _is_there(table, column, m) for m in table.measures for column in table.columns):
        said.append(
            _on(table, "Without a global model, accuracies are of the clients' own models on their own test data.")
        )
    keys = [measure.key for measure in table.measures]
    if "head" in keys and any(key.startswith(DOMAIN) for key in keys):
        said.append(
            "Accuracy is the mean over domains; by frequency of the class it is over all their samples together."
        )
    if VALIDATION_DATA in table.tested_on:
        some = "Some runs" if len(table.tested_on) > 1 else "All runs"
        said.append(f"{some} were tested on {VALIDATION_DATA} (data.validation-share), not on the {TEST_DATA}.")
    if table.chosen:
        said.append(
            "Each row has the values that did best for it on validation data, in runs of seeds that are not here; "
            f"{FOLDER}/table.md has them all."
        )
        if any(chosen.at_end for chosen in table.chosen.values()):
            said.append("Where one is an end, the smallest or the largest that was tried, a better one may lie beyond.")
    if table.fewest_tested == 1:
        said.append(
            "Runs were tested in one round alone: mean of last ten, last and best are one number, and no target is "
            "reached before that round; evaluation.every, or clients-every without a global model, says how often."
        )
    elif table.fewest_tested < LAST_ROUNDS:
        said.append(f"A run was tested in {table.fewest_tested} rounds only, and its mean of last ten is of those.")
    targets = {column: f"{target:.1f} %" for column, target in table.targets.items()}
    if targets:
        named = ", ".join(f"{value} ({column})" if column else value for column, value in targets.items())
        said.append(f"Target: {named}; {NOTHING} where not every seed reaches it.")
    return said
