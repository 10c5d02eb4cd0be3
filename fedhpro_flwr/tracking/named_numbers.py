"""A round, or a whole run, as numbers that have the same names in every tracker."""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import chain, count
from typing import Any

from fedhpro_flwr.accuracies import ClientsTested, ServerTested
from fedhpro_flwr.runs.reports import RoundReport

SUMMARY = ("best", "best-round", "last", "mean-of-last-ten")  # the entries of reports.headline
REFUSED = re.compile(r"[^\w. -]")  # characters that MLflow refuses in names, and the slash, which separates groups


def round_numbers(report: RoundReport) -> dict[str, float]:
    """The numbers of a round, `group/name` or `group/kind/name`; what was not measured is left out.

    Accuracies are between 0 and 1, losses in nats, times in seconds and sizes in bytes; clients' times and all sizes
    are sums over the clients. `server/` is the model that the round ended with, `clients/` those that it began with.
    """
    numbers = {
        **({} if report.train_loss is None else {"train/loss": report.train_loss}),
        "replies/good": len(report.clients),
        "replies/set-aside": len(report.set_aside),
        "seconds/round": report.seconds,
        **_named("seconds/server", report.server_seconds),
        **_named("seconds/client", report.client_seconds),
        **_named("bytes/up", report.bytes_up),
        **_named("bytes/down", report.bytes_down),
        **_named("method", report.method),
    }
    if report.tested:
        loss = report.tested.loss
        own = {"accuracy": report.tested.accuracy, **({} if loss is None else {"loss": loss})}
        numbers |= _named("server", own) | _tested("server", report.tested)
    if report.received:
        clients = report.received
        own = {"mean": clients.accuracy, "deviation": clients.deviation, "worst": clients.worst}
        numbers |= _named("clients", own) | _tested("clients", clients)
    return {name: float(value) for name, value in numbers.items()}


def summary_numbers(summary: Mapping[str, Any]) -> dict[str, float]:
    """Best accuracy and its round, last accuracy, and mean of the last ten, from the content of summary.json."""
    measured = {name: summary["accuracy"][name] for name in SUMMARY}
    return {name: float(value) for name, value in _named("summary", measured).items()}


def _tested(group: str, tested: ServerTested | ClientsTested) -> dict[str, float]:
    totals = {
        "head": tested.head,
        "medium": tested.medium,
        "tail": tested.tail,
        "mean-over-domains": tested.mean_over_domains,
        "by-prototype": tested.by_prototype,
    }
    return (
        _named(group, totals)
        | _named(f"{group}/domain", tested.domain_accuracy)
        | _named(f"{group}/architecture", tested.by_architecture)
    )


def _named(group: str, values: Mapping[str, float | None]) -> dict[str, float]:
    """The values that were measured, under names that a tracker takes; if two become one, the second ends in 2."""
    numbers: dict[str, float | None] = {}
    for name, value in values.items():
        plain = f"{group}/{REFUSED.sub('_', name)}"
        same = (f"{plain} {number}" for number in count(2))
        numbers[next(free for free in chain([plain], same) if free not in numbers)] = value
    return {name: value for name, value in numbers.items() if value is not None}
