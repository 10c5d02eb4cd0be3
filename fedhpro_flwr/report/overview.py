"""The head of the page: what was run, and a line of numbers for each group."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from fedhpro_flwr.comparison.measures import costs
from fedhpro_flwr.config import RunConfig
from fedhpro_flwr.report.bands import Spread
from fedhpro_flwr.report.drawing import page_color
from fedhpro_flwr.report.groups import Group
from fedhpro_flwr.report.page import Section, Table

HEADINGS = (
    *("seeds", "rounds", "best, %", "last, %", "mean of last ten, %"),
    *("seconds a round", "MB down a round", "MB up a round"),
)
COSTS = (("seconds", 1), ("bytes-down", 1e6), ("bytes-up", 1e6))  # with the page's unit
MOST_VALUES = 3  # different values of one fact that are written out
FACTS: dict[str, Callable[[RunConfig], str]] = {
    "experiment": lambda config: config.experiment,
    "data set": lambda config: config.data.name + (f" ({config.data.domains})" if config.data.domains else ""),
    "clients": lambda config: (
        f"{config.partition.num_partitions}"
        + (f", {config.clients.per_round} a round" if config.clients.per_round else "")
    ),
    "split": lambda config: (
        config.partition.scheme
        + (
            f", alpha {config.partition.alpha:g}"
            if config.partition.scheme in ("dirichlet", "nid1", "quantity")
            else ""
        )
        + (f", imbalance {config.partition.imbalance:g}" if config.partition.imbalance > 1 else "")
    ),
    "model": lambda config: config.model.groups or f"{config.model.name}, width {config.model.width or 'its own'}",
    "training": lambda config: f"{config.rounds} rounds of {config.local.epochs} local epochs, lr {config.local.lr:g}",
}


def overview(groups: Sequence[Group], notes: Sequence[str]) -> Section:
    """The settings of the groups, and the table of their results.

    Args:
        groups: in the order of the page.
        notes: on runs that are not shown or not finished.
    """
    configs = [group.runs[0].config for group in groups]
    facts = [(name, _fact([say(config) for config in configs])) for name, say in FACTS.items()]
    measures = [_measures(group) for group in groups]
    several = len(set(filter(None, measures))) > 1
    text = (
        f"Accuracy is of: {' or '.join(dict.fromkeys(filter(None, measures))) or 'nothing yet'}. "
        "Numbers are mean ± deviation over seeds (of a sample, n - 1 in its denominator), accuracies over those that "
        "have finished where any has; bytes are those of all clients together."
    )
    rows = [
        [*_row(group), *([measure or "–"] if several else [])] for group, measure in zip(groups, measures, strict=True)
    ]
    colors = [page_color(number) for number in range(len(groups))]
    table = Table(("", *HEADINGS, *(["accuracy of"] if several else [])), rows, colors)
    return Section("overview", "Overview", (text,), facts, table, notes=notes)


def _fact(values: Sequence[str]) -> str:
    """The value that the groups have in common, or the few different ones."""
    different = list(dict.fromkeys(values))
    return (
        "; ".join(different) if len(different) <= MOST_VALUES else f"{len(different)} settings, see the groups' names"
    )


def _measures(group: Group) -> str:
    """What the accuracies of a group are of; "" if nothing was tested."""
    return " or ".join(dict.fromkeys(run.measure for run in group.runs if run.accuracies()))


def _row(group: Group) -> list[str]:
    results = [run.headline() for run in group.judged]
    spent = [costs(run.rounds) for run in group.runs]
    rounds = dict.fromkeys(f"{len(run.rounds)}" for run in group.runs)
    return [
        group.name,
        ", ".join(f"{run.config.seed}" if run.finished else f"{run.config.seed} (unfinished)" for run in group.runs),
        ", ".join(rounds),
        *(
            _number(Spread.of(_percent(result[key]) for result in results), 2)
            for key in ("best", "last", "mean-of-last-ten")
        ),
        *(_number(Spread.of(each[key] / unit for each in spent), 3) for key, unit in COSTS),
    ]


def _percent(value: float | int | None) -> float | None:
    return None if value is None else 100 * value


def _number(spread: Spread | None, digits: int) -> str:
    if spread is None:
        return "–"
    return f"{spread.mean:.{digits}f}" + ("" if spread.deviation is None else f" ± {spread.deviation:.{digits}f}")
