"""Flower's own record of a run, which `Strategy.start` returns."""

from __future__ import annotations

from collections.abc import Callable

from flwr.app import ArrayRecord, MetricRecord
from flwr.serverapp.strategy import Result

from fedhpro_flwr.reports import RoundReport

EvaluateFn = Callable[[int, ArrayRecord], MetricRecord | None]


def note(result: Result, report: RoundReport, arrays: ArrayRecord, evaluate_fn: EvaluateFn | None = None) -> None:
    """Add a round to the record.

    Args:
        result: the record.
        report: of the round.
        arrays: the model after it.
        evaluate_fn: the caller's own test, which Flower's strategies call after every round; what it returns joins the
            server's numbers.
    """
    server_round = report.server_round
    result.arrays = arrays
    told = MetricRecord({} if report.train_loss is None else {"train-loss": report.train_loss})
    result.train_metrics_clientapp[server_round] = told
    if report.tested:
        tested = MetricRecord({"accuracy": report.tested.accuracy, "loss": report.tested.loss})
        result.evaluate_metrics_serverapp[server_round] = tested
    if evaluate_fn and (extra := evaluate_fn(server_round, arrays)) is not None:
        result.evaluate_metrics_serverapp.setdefault(server_round, MetricRecord()).update(extra)
