"""A line of metrics.jsonl, as it is read."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from pydantic import TypeAdapter

from fedhpro_flwr.accuracies import ClientsTested, ServerTested
from fedhpro_flwr.config import ConfigError
from fedhpro_flwr.runs.read_json import of_json, typed
from fedhpro_flwr.runs.reports import RoundReport

REPORT = TypeAdapter(RoundReport)
WAY_OUT = "; bring the file back, or begin a new run"  # if a line is damaged


def round_of(line: bytes, place: str) -> dict[str, Any]:
    """The report that a line of metrics.jsonl holds. Tests by older releases get the keys that they did not have yet.

    Raises:
        ConfigError: it is damaged; the message names the `place`.
    """
    try:
        report, written = typed(line, REPORT), of_json(line.decode())
        tests = {"received": _complete(report.received), "tested": _complete(report.tested)}
        return {**vars(report), **written, **tests}
    except ValueError as error:
        why = str(error).replace(" at line 1 column", " at column")  # the place tells the line
        raise ConfigError(f"{place} cannot be read: it is no report of a round ({why}){WAY_OUT}") from None


def _complete(tested: ClientsTested | ServerTested | None) -> dict[str, Any] | None:
    return asdict(tested) if tested else None
