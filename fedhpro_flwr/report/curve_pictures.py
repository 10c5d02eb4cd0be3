"""Curves over the rounds: a line for each group, with a band of one deviation over its seeds."""

from __future__ import annotations

from collections.abc import Sequence

from fedhpro_flwr.report.bands import Spread, band
from fedhpro_flwr.report.drawing import Picture, legend_below, look, new_figure, picture, whole_numbers
from fedhpro_flwr.report.groups import Group
from fedhpro_flwr.report.runs import Run

Curve = Sequence[tuple[int, float]]  # (round, value)


def accuracy_picture(groups: Sequence[Group]) -> Picture | None:
    """Accuracy in percent round by round; None if nothing was tested yet."""
    measured = [
        (group.name, [[(r, 100 * value) for r, value in run.accuracies()] for run in group.runs]) for group in groups
    ]
    measures = " or ".join(dict.fromkeys(run.measure for group in groups for run in group.runs if run.accuracies()))
    caption = f"Accuracy ({measures}) after each round: mean over the seeds that got there, a band of one deviation."
    return curves_picture("accuracy", measured, "accuracy, %", caption)


def loss_picture(groups: Sequence[Group]) -> Picture | None:
    """The clients' training loss, with all terms of the method; None if no client tells it."""
    measured = [(group.name, [_losses(run) for run in group.runs]) for group in groups]
    caption = "Training loss of the clients with all terms of their method: methods with more terms are higher."
    return curves_picture("training-loss", measured, "training loss", caption)


def curves_picture(
    name: str, measured: Sequence[tuple[str, Sequence[Curve]]], unit: str, caption: str
) -> Picture | None:
    """A picture with a line for each group.

    Args:
        name: of the picture.
        measured: each group's name and the curves of its runs, in the order of the groups. A group without curves is
            left out, and its colour is not given to another one.
        unit: of the vertical axis.
        caption: of the picture.
    """
    bands = [(number, group, band(curves)) for number, (group, curves) in enumerate(measured)]
    drawn = [(number, group, points) for number, group, points in bands if points]
    if not drawn:
        return None
    figure, axes = new_figure()
    lines = []
    for number, _, points in drawn:
        style, rounds = look(number), [server_round for server_round, _ in points]
        spreads = [spread for _, spread in points]
        axes.fill_between(
            rounds, [s.low for s in spreads], [s.high for s in spreads], color=style.color, alpha=0.18, lw=0
        )
        marker = "o" if len(points) < 3 else ""
        lines += axes.plot(
            rounds, [s.mean for s in spreads], color=style.color, ls=style.stroke, lw=1.8, marker=marker, ms=4
        )
    axes.set(xlabel="round", ylabel=unit)
    whole_numbers(axes)
    legend_below(figure, lines, [group for _, group, _ in drawn])
    ends = "; ".join(f"{group} ends at {_value(points[-1][1])}" for _, group, points in drawn)
    return picture(figure, name, caption, f"Curves of {unit} over the rounds: {ends}.")


def _losses(run: Run) -> Curve:
    return [(line["server_round"], line["train_loss"]) for line in run.rounds if line["train_loss"] is not None]


def _value(spread: Spread) -> str:
    deviation = "" if spread.deviation is None else f" ± {spread.deviation:.3g}"
    return f"{spread.mean:.3g}{deviation}"
