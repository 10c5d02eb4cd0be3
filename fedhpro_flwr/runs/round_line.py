"""A line of metrics.jsonl, as it is read."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from pydantic import TypeAdapter

from fedhpro_flwr.accuracies import ClientsTested, ServerTested
from fedhpro_flwr.config import ConfigError
from fedhpro_flwr.runs.read_json import of_json, typed
from fedhpro_flwr.runs.reports import RoundReport

# A line with these keys is a round's report. Keys that only newer releases write are not among them.
ROUND_KEYS = frozenset(
    {
        "server_round", "seconds", "received", "tested", "server_seconds", "client_seconds", "bytes_up", "bytes_down",
        "clients", "method",
    }
)  # fmt: skip
REPORT = TypeAdapter(RoundReport)
WAY_OUT = "; bring the file back, or begin a new run"  # if a line is damaged


def round_of(line: bytes, place: str) -> dict[str, Any]:
    """The report that a line of metrics.jsonl holds. Tests by older releases get the keys that they did not have yet.

    Raises:
        ConfigError: it is damaged; the message names the `place`.
    """
    try:
        content = of_json(line.decode())
        if isinstance(content, dict) and content.keys() >= ROUND_KEYS:
            report = typed(line, REPORT)
            tests = {"received": _complete(report.received), "tested": _complete(report.tested)}
            return content | tests | {"train_loss": report.train_loss}
        why = "it is no report of a round"
    except UnicodeDecodeError:
        why = "it has bytes that are no UTF-8"
    except json.JSONDecodeError as error:
        why = f"it is no JSON ({error.msg} at character {error.pos + 1})"
    except ValueError as error:
        why = f"it is no report of a round ({error})"
    raise ConfigError(f"{place} cannot be read: {why}{WAY_OUT}")


def _complete(tested: ClientsTested | ServerTested | None) -> dict[str, Any] | None:
    return asdict(tested) if tested else None
