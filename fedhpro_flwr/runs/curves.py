"""curves.png: accuracy and loss over the rounds, seconds and bytes of each phase."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

from fedhpro_flwr.accuracies import ClientsTested
from fedhpro_flwr.config import RunConfig
from fedhpro_flwr.runs.reports import means
from fedhpro_flwr.runs.summary import judging_data

MOST_DOTS = 100  # on a curve; more would merge into a thick line that hides the other curves
MOST_NAMES_WITHIN = 3  # in a legend among the curves
ALL_CLASSES, OVER_DOMAINS, OWN_DATA = "all classes", "mean over domains", "on the clients' own "


def draw_curves(rounds: Sequence[Mapping[str, Any]], config: RunConfig, final: ClientsTested | None = None) -> bytes:
    """A PNG of one run, from the lines of its metrics.jsonl and the clients' own tests after the last round."""
    from matplotlib.figure import Figure  # imported here: a client never draws

    figure = Figure(figsize=(11, 6.2), layout="constrained")
    accuracy, losses, seconds, traffic = figure.subplots(2, 2).flat
    losses.sharex(accuracy)  # so that a single test after the last round is drawn at that round
    figure.suptitle(f"{config.experiment}: {config.method.name}, preset {config.preset}, seed {config.seed}")

    for name, curve in accuracy_curves(rounds, config, final).items():
        style: dict[str, Any] = {"lw": 2} if name in (ALL_CLASSES, OVER_DOMAINS) else {"lw": 1}
        style |= {"ls": "--", "color": "grey"} if name.startswith(OWN_DATA) else {}
        _curve(accuracy, curve, name, **style)
    accuracy.set(title=f"accuracy on {judging_data(config)}", xlabel="round", ylabel="%")
    accuracy.xaxis.get_major_locator().set_params(integer=True)
    if accuracy.lines:
        below: dict[str, Any] = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.19), "ncols": 3}  # hides no curve
        place = below if len(accuracy.lines) > MOST_NAMES_WITHIN else {"loc": "best"}
        for text in accuracy.legend(fontsize=8, **place).get_texts():
            text.set_parse_math(False)  # the name of a domain with dollar signs is no formula
    else:
        accuracy.text(0.5, 0.5, "not tested yet", ha="center", va="center", transform=accuracy.transAxes)
    accuracy.grid(alpha=0.3)

    # With `privacy.withhold` no client tells its loss.
    if trained := [(line["server_round"], line["train_loss"]) for line in rounds if line["train_loss"] is not None]:
        _curve(losses, trained, "training (all terms, clients)")
    known = [line for line in rounds if line["tested"] and line["tested"]["loss"] is not None]
    if tested := [(line["server_round"], line["tested"]["loss"]) for line in known]:
        _curve(losses, tested, f"{judging_data(config).split()[0]} (cross-entropy, server)")
    losses.set(title="loss", xlabel="round", yscale="log" if losses.lines else "linear")
    losses.xaxis.get_major_locator().set_params(integer=True)
    if losses.lines:
        losses.legend(fontsize=8, loc="best")
    losses.grid(alpha=0.3, which="both")

    phases = {f"client: {name}": value for name, value in means(rounds, "client_seconds").items()}
    phases |= {f"server: {name}": value for name, value in means(rounds, "server_seconds").items()}
    _bars(seconds, {name: 1000 * value for name, value in phases.items()}, "milliseconds a round (clients summed)")
    sizes = {f"down: {name}": value / 1000 for name, value in means(rounds, "bytes_down").items()}
    sizes |= {f"up: {name}": value / 1000 for name, value in means(rounds, "bytes_up").items()}
    _bars(traffic, sizes, "kilobytes a round (clients summed)")
    picture = io.BytesIO()
    with without_glyphs():
        figure.savefig(picture, format="png", dpi=110)
    return picture.getvalue()


@contextmanager
def without_glyphs() -> Iterator[None]:
    """No warning for each character that Matplotlib's font lacks, as all of Chinese: it draws a box in its place."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from", UserWarning)
        yield


def accuracy_curves(
    rounds: Sequence[Mapping[str, Any]], config: RunConfig, final: ClientsTested | None = None
) -> dict[str, list[tuple[int, float | None]]]:
    """(round, percent) of everything that was measured: in total, by domain, group of classes, and architecture."""
    tested = [(line["server_round"], line["tested"]) for line in rounds if line["tested"]]
    # A round reports the clients' tests of the models it began with, which the round before ended with.
    received = [(line["server_round"] - 1, line["received"]) for line in rounds if line["received"]]
    received += [(rounds[-1]["server_round"], asdict(final))] if final else []
    domains = tested[0][1]["domain_accuracy"] if tested else {}
    curves = {OVER_DOMAINS if domains else ALL_CLASSES: _of(tested, "mean_over_domains" if domains else "accuracy")}
    curves |= {name: _of(tested, "domain_accuracy", name) for name in domains}
    if config.partition.imbalance > 1:
        curves |= {group: _of(tested, group) for group in ("head", "medium", "tail")}
    curves[f"{OWN_DATA}{judging_data(config)}"] = _of(received, "accuracy")
    architectures = dict.fromkeys(name for _, said in received for name in said["by_architecture"])
    curves |= {f"clients with {name}": _of(received, "by_architecture", name) for name in architectures}
    return {name: curve for name, curve in curves.items() if curve}


def _of(lines: Sequence[tuple[int, Mapping[str, Any]]], *keys: str) -> list[tuple[int, float | None]]:
    curve = []
    for server_round, said in lines:
        value: Any = said
        for key in keys:
            value = value.get(key)
        curve.append((server_round, None if value is None else 100 * value))
    return curve


def _curve(axes: Any, points: Sequence[tuple[int, float | None]], name: str, **style: Any) -> None:
    axes.plot(*zip(*points, strict=True), marker="." if len(points) <= MOST_DOTS else "", label=name, **style)


def _bars(axes: Any, values: Mapping[str, float], title: str) -> None:
    bars = axes.barh(
        list(values),
        list(values.values()),
        color=["#4878a8" if name.startswith(("client", "down")) else "#d08a3a" for name in values],
    )
    labels = [f"{value:,.1f}" if value >= 0.1 or not value else f"{value:.1g}" for value in values.values()]
    axes.bar_label(bars, labels=labels, fontsize=8, padding=3)
    axes.set_title(title)
    if not any(value > 0 for value in values.values()):
        axes.set_xticks([])
    axes.invert_yaxis()
    axes.tick_params(axis="y", labelsize=8)
    for text in axes.get_yticklabels():
        text.set_parse_math(False)
    axes.margins(x=0.15)
