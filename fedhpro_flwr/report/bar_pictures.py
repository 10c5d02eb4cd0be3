"""Bars of the groups: side by side for accuracy by class and by domain, stacked for seconds and bytes of a round."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from textwrap import fill
from types import MappingProxyType

from fedhpro_flwr.printable import legible
from fedhpro_flwr.report.bands import Spread, spread_by_name
from fedhpro_flwr.report.drawing import INK, PARTS, WIDTH, Picture, legend_below, look, new_figure, picture
from fedhpro_flwr.report.groups import Group
from fedhpro_flwr.report.runs import Run
from fedhpro_flwr.runs.reports import means

BAR = 0.075  # inches, the least width of a bar: thinner ones cannot be told apart
LINE = 0.19  # inches, the height of a line of a group's name
MOST_BARS = 40  # classes drawn as bars; more are drawn as curves from the most to the least accurate


def class_picture(groups: Sequence[Group]) -> Picture | None:
    """Accuracy by class in the last tested round, over the finished runs; None if no run reports classes."""
    tables = [(group.name, spread_by_name([_by_class(run) for run in group.judged])) for group in groups]
    classes = len(dict.fromkeys(name for _, table in tables for name in table))
    if classes > MOST_BARS:
        return _ranked_classes(tables)
    return _bars("classes", tables, "Accuracy of each class in the last tested round, mean over seeds.")


def domain_picture(groups: Sequence[Group]) -> Picture | None:
    """Accuracy by domain in the last tested round, over the finished runs; None if there are no domains."""
    tables = [(group.name, spread_by_name([_by_domain(run) for run in group.judged])) for group in groups]
    return _bars("domains", tables, "Accuracy of each domain in the last tested round, mean over seeds.")


def seconds_picture(groups: Sequence[Group]) -> Picture | None:
    """Seconds of a round by phase, stacked: the clients' as a sum, and the server's without its waiting for them."""
    keys = {"client_seconds": "client: ", "server_seconds": "server: "}
    tables = [(group.name, _mean_over_runs(group, keys, 1.0)) for group in groups]
    caption = "Seconds of a round by phase: those of the clients summed, and the server's own work."
    silent = {group.name for group in groups if all(run.config.privacy.withhold for run in group.runs)}
    if silent:
        caption += " Clients with privacy.withhold do not tell theirs: those bars are the server's alone."
    return _stacked("seconds", tables, "seconds a round", caption, dict.fromkeys(silent, " (server alone)"))


def bytes_picture(groups: Sequence[Group]) -> Picture | None:
    """Megabytes of a round by record, stacked, over all clients."""
    keys = {"bytes_down": "down: ", "bytes_up": "up: "}
    tables = [(group.name, _mean_over_runs(group, keys, 1e-6)) for group in groups]
    caption = "Megabytes of a round by record, to all clients (down) and from them (up)."
    return _stacked("bytes", tables, "megabytes a round", caption)


def _by_class(run: Run) -> dict[str, float | None]:
    values = (run.last_tested() or {}).get("class_accuracy")
    if not values:
        return {}  # nothing was tested yet
    names = run.division.class_names if run.division else range(len(values))
    return {str(name): None if value is None else 100 * value for name, value in zip(names, values, strict=True)}


def _by_domain(run: Run) -> dict[str, float | None]:
    values = (run.last_tested() or {}).get("domain_accuracy", {})
    return {name: None if value is None else 100 * value for name, value in values.items()}


def _mean_over_runs(group: Group, keys: Mapping[str, str], scale: float) -> dict[str, Spread]:
    """Means over the rounds of a run, then over runs, of the entries under each of `keys`, prefixed with its value."""
    tables = [
        {
            f"{prefix}{name}": scale * value
            for key, prefix in keys.items()
            for name, value in means(run.rounds, key).items()
        }
        for run in group.runs
    ]
    return spread_by_name(tables)


def _bars(name: str, tables: Sequence[tuple[str, Mapping[str, Spread]]], caption: str) -> Picture | None:
    """A bar of each group side by side for each name, with a deviation if there are several seeds."""
    names = list(dict.fromkeys(entry for _, table in tables for entry in table))
    shown = [(number, group, table) for number, (group, table) in enumerate(tables) if table]
    if not names or not shown:
        return None
    step = 0.8 / len(shown)
    width = max(WIDTH, len(names) * len(shown) * BAR / 0.8 + 0.8)
    figure, axes = new_figure(width)
    bars = []
    for place, (number, _, table) in enumerate(shown):
        style = look(number)
        at = [n + (place - (len(shown) - 1) / 2) * step for n, entry in enumerate(names) if entry in table]
        spreads = [table[entry] for entry in names if entry in table]
        bars.append(
            axes.bar(
                at,
                [s.mean for s in spreads],
                step * 0.9,
                yerr=[s.deviation or 0.0 for s in spreads] if any(s.deviation for s in spreads) else None,
                color=style.color,
                hatch=style.hatch,
                edgecolor=INK if style.hatch else style.color,
                lw=0,
                error_kw={"ecolor": INK, "lw": 0.9},
            )
        )
    longest = max(map(len, names))
    axes.set_xticks(
        range(len(names)),
        [legible(entry, 18) for entry in names],
        rotation=0 if longest * len(names) < 11 * width else 60,
        ha="center" if longest * len(names) < 11 * width else "right",
        rotation_mode="anchor",
    )
    axes.grid(visible=False, axis="x")
    axes.set(ylabel="accuracy, %", ylim=(0, 101))
    legend_below(figure, bars, [group for _, group, _ in shown])
    worst = "; ".join(
        f"{group}: from {low:.1f} ({worst_name}) to {high:.1f} ({best_name})"
        for _, group, table in shown
        for (worst_name, low), (best_name, high) in [_ends(table)]
    )
    return picture(figure, name, caption, f"Bars of accuracy in percent. {worst}.", wide=width > 1.25 * WIDTH)


def _ends(table: Mapping[str, Spread]) -> tuple[tuple[str, float], tuple[str, float]]:
    ordered = sorted((spread.mean, name) for name, spread in table.items())
    return (ordered[0][1], ordered[0][0]), (ordered[-1][1], ordered[-1][0])


def _ranked_classes(tables: Sequence[tuple[str, Mapping[str, Spread]]]) -> Picture:
    """Many classes: each group's accuracies from its best class to its worst."""
    figure, axes = new_figure()
    lines, names = [], []
    for number, (group, table) in enumerate(tables):
        if table:
            style = look(number)
            ranked = sorted((spread.mean for spread in table.values()), reverse=True)
            lines += axes.plot(range(1, len(ranked) + 1), ranked, color=style.color, ls=style.stroke, lw=1.8)
            names.append(group)
    axes.set(xlabel="class, from the best to the worst of each group", ylabel="accuracy, %", ylim=(0, 101))
    legend_below(figure, lines, names)
    caption = "Accuracy of each class in the last tested round, each group's classes from the best to the worst."
    return picture(figure, "classes", caption, f"Curves of accuracy by class of {', '.join(names)}.")


def _stacked(
    name: str,
    tables: Sequence[tuple[str, Mapping[str, Spread]]],
    unit: str,
    caption: str,
    remarks: Mapping[str, str] = MappingProxyType({}),
) -> Picture | None:
    """One bar for each group, its parts one after the other; a group's remark is written behind its total."""
    shown = [(group, table) for group, table in tables if table]
    parts = list(dict.fromkeys(part for _, table in shown for part in table))
    if not parts:
        return None
    labels = [fill(group, 26) for group, _ in shown]
    height = max(0.42, *(LINE * (label.count("\n") + 1) for label in labels))
    figure, axes = new_figure(WIDTH, 0.9 + height * len(shown))
    begin, bars = [0.0] * len(shown), []
    for place, part in enumerate(parts):
        sizes = [table[part].mean if part in table else 0.0 for _, table in shown]
        bars.append(
            axes.barh(range(len(shown)), sizes, 0.26 / height, left=begin, color=PARTS[place % len(PARTS)], lw=0)
        )
        begin = [at + size for at, size in zip(begin, sizes, strict=True)]
    totals = [f"{total:.3g}{remarks.get(group, '')}" for (group, _), total in zip(shown, begin, strict=True)]
    for row, (total, said) in enumerate(zip(begin, totals, strict=True)):
        axes.annotate(f" {said}", (total, row), va="center", fontsize=9, color=INK)
    axes.set_yticks(range(len(shown)), labels)
    axes.set_ylim(len(shown) - 0.5, -0.5)  # the first on top, and each with room for all lines of its name
    axes.margins(x=0.12)
    axes.grid(visible=False, axis="y")
    axes.set(xlabel=unit)
    legend_below(figure, bars, parts)
    in_total = "; ".join(f"{group} {said}" for (group, _), said in zip(shown, totals, strict=True))
    return picture(figure, name, caption, f"Stacked bars of {unit}, in total: {in_total}.")
