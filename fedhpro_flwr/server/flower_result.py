"""Flower's own record of a run, which `Strategy.start` returns."""

from __future__ import annotations

from collections.abc import Callable

from flwr.app import ArrayRecord, ConfigRecord, MetricRecord
from flwr.serverapp.strategy import Result

from fedhpro_flwr.config import ConfigError
from fedhpro_flwr.records import TRAIN_LOSS
from fedhpro_flwr.runs.reports import RoundReport

EvaluateFn = Callable[[int, ArrayRecord], MetricRecord | None]


def note_round(result: Result, report: RoundReport, arrays: ArrayRecord, evaluate_fn: EvaluateFn | None = None) -> None:
    """Add a round to the record.

    Args:
        result: the record.
        report: of the round.
        arrays: the model after it.
        evaluate_fn: as in `note_evaluation`.
    """
    server_round = report.server_round
    result.arrays = arrays
    result.train_metrics_clientapp[server_round] = train_record(report.train_loss)
    if report.tested:
        told = {"accuracy": report.tested.accuracy, "loss": report.tested.loss}
        tested = MetricRecord({name: value for name, value in told.items() if value is not None})
        result.evaluate_metrics_serverapp[server_round] = tested
    note_evaluation(result, server_round, arrays, evaluate_fn)


def train_record(loss: float | None) -> MetricRecord:
    """What Flower is told of a round of training; nothing where no client tells its loss."""
    return MetricRecord({} if loss is None else {TRAIN_LOSS: loss})


def note_evaluation(result: Result, server_round: int, arrays: ArrayRecord, evaluate_fn: EvaluateFn | None) -> None:
    """The caller's own test of a model, where there is one: before the first round and after every one, as Flower does.

    Args:
        result: the record.
        server_round: after which the model is this one.
        arrays: the model.
        evaluate_fn: the test; what it returns joins the server's numbers.
    """
    if evaluate_fn and (extra := evaluate_fn(server_round, arrays)) is not None:
        result.evaluate_metrics_serverapp.setdefault(server_round, MetricRecord()).update(extra)


def refuse_settings(train_config: ConfigRecord | None, evaluate_config: ConfigRecord | None) -> None:
    """Flower's strategies hand these to the clients alone.

    Raises:
        ConfigError: one holds something. Server and clients go by the same settings, or control variates, noise and
            checkpoints would be of others than what is trained with.
    """
    for name, given in (("train_config", train_config), ("evaluate_config", evaluate_config)):
        if given:
            raise ConfigError(
                f"{name} = {dict(given)}: settings belong in RunConfig, which the server reads too and sends to all "
                "clients; leave it out"
            )
