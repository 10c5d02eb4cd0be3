"""curves.png: accuracy and loss over the rounds, seconds and bytes of each phase."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

from fedhpro_flwr.config import RunConfig
from fedhpro_flwr.reports import means


def draw_curves(rounds: Sequence[Mapping[str, Any]], config: RunConfig) -> bytes:
    """A PNG of one run, from the lines of its metrics.jsonl."""
    from matplotlib.figure import Figure  # imported here: a client never draws

    figure = Figure(figsize=(11, 6.2), layout="constrained")
    accuracy, losses, seconds, traffic = figure.subplots(2, 2).flat
    figure.suptitle(f"{config.experiment}: {config.method.name}, preset {config.preset}, seed {config.seed}")
    tested = [line for line in rounds if line["tested"]]

    rounds_tested = [line["server_round"] for line in tested]
    domains = list(tested[0]["tested"]["domain_accuracy"]) if tested else []
    score = "mean_over_domains" if domains else "accuracy"
    accuracy.plot(
        rounds_tested,
        [100 * line["tested"][score] for line in tested],
        lw=2,
        marker=".",
        label="mean over domains" if domains else "all classes",
    )
    for name in domains:
        values = [line["tested"]["domain_accuracy"][name] for line in tested]
        accuracy.plot(rounds_tested, [None if v is None else 100 * v for v in values], lw=1, label=name)
    if config.partition.imbalance > 1:
        for group in ("head", "medium", "tail"):
            values = [line["tested"][group] for line in tested]
            accuracy.plot(
                [line["server_round"] for line in tested],
                [None if v is None else 100 * v for v in values],
                lw=1,
                marker=".",
                label=group,
            )
    received = [(line["server_round"] - 1, 100 * line["received"]["accuracy"]) for line in rounds if line["received"]]
    if received:
        accuracy.plot(
            *zip(*received, strict=True), lw=1, ls="--", marker=".", color="grey", label="on the clients' own test data"
        )
    accuracy.set(title="accuracy of the global model", xlabel="round", ylabel="%")
    accuracy.legend(fontsize=8, loc="lower right")
    accuracy.grid(alpha=0.3)

    losses.plot(
        [line["server_round"] for line in rounds],
        [line["train_loss"] for line in rounds],
        marker=".",
        label="training (all terms, clients)",
    )
    losses.plot(
        [line["server_round"] for line in tested],
        [line["tested"]["loss"] for line in tested],
        marker=".",
        label="test (cross-entropy, server)",
    )
    losses.set(title="loss", xlabel="round", yscale="log")
    losses.legend(fontsize=8, loc="upper right")
    losses.grid(alpha=0.3, which="both")

    phases = {f"client: {name}": value for name, value in means(rounds, "client_seconds").items()}
    phases |= {f"server: {name}": value for name, value in means(rounds, "server_seconds").items() if name != "waiting"}
    _bars(seconds, {name: 1000 * value for name, value in phases.items()}, "milliseconds a round (clients summed)")
    sizes = {f"down: {name}": value / 1000 for name, value in means(rounds, "bytes_down").items()}
    sizes |= {f"up: {name}": value / 1000 for name, value in means(rounds, "bytes_up").items()}
    _bars(traffic, sizes, "kilobytes a round (clients summed)")
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=110)
    return picture.getvalue()


def _bars(axes: Any, values: Mapping[str, float], title: str) -> None:
    bars = axes.barh(
        list(values),
        list(values.values()),
        color=["#4878a8" if name.startswith(("client", "down")) else "#d08a3a" for name in values],
    )
    axes.bar_label(bars, labels=[f"{value:,.1f}" for value in values.values()], fontsize=8, padding=3)
    axes.set(title=title, xscale="log" if any(value > 0 for value in values.values()) else "linear")
    axes.invert_yaxis()
    axes.tick_params(axis="y", labelsize=8)
    axes.margins(x=0.25)
