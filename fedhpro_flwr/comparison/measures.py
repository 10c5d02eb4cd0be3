"""What a table shows of a finished run, as plain numbers: their titles and units, and whether more is better."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from fedhpro_flwr.accuracies import ClientsTested
from fedhpro_flwr.client.privacy import EPSILON, EPSILON_IF_SECRET
from fedhpro_flwr.comparison.significance import ROUNDING
from fedhpro_flwr.runs.read_json import of_json
from fedhpro_flwr.runs.reports import means
from fedhpro_flwr.runs.run_folder import METRICS_FILE, SUMMARY_FILE, read_rounds
from fedhpro_flwr.runs.summary import TEST_DATA, judged_by

PanelTitle = Literal[
    "accuracy",
    "clients on their own test data",
    "accuracy by domain",
    "accuracy by frequency of the class",
    "cost a round",
    "privacy",
]  # shown together
Unit = Literal["%", "bytes", "seconds", "rounds", "epsilon"]
TARGET = "rounds-to-target"
CLIENTS = "mean over clients"  # what summary.json says its accuracies are of, if there is no global model
DOMAIN = "domain "
OWN = "own "  # begins the keys of measures of clients' own models, which are not compared with a global model's
HEADLINES = ("mean-of-last-ten", f"{OWN}mean-of-last-ten", "clients")  # what rows are compared by: the first one there


@dataclass(frozen=True)
class Measure:
    """One number of a run."""

    key: str
    title: str
    unit: Unit = "%"
    more_is_better: bool = True
    panel: PanelTitle = "accuracy"

    @property
    def is_tested(self) -> bool:
        """Whether its differences are tested for significance: accuracies are, costs are only reported."""
        return self.unit == "%"


MEASURES = {
    measure.key: measure
    for measure in (
        Measure("mean-of-last-ten", "mean of last ten"),
        Measure("last", "last"),
        Measure("best", "best"),
        Measure("clients", "mean over clients", panel="clients on their own test data"),
        Measure("clients-deviation", "deviation", more_is_better=False, panel="clients on their own test data"),
        Measure("worst-client", "worst client", panel="clients on their own test data"),
        Measure("head", "head", panel="accuracy by frequency of the class"),
        Measure("medium", "medium", panel="accuracy by frequency of the class"),
        Measure("tail", "tail", panel="accuracy by frequency of the class"),
        Measure(TARGET, "rounds to target", "rounds", more_is_better=False),
        Measure("bytes-up", "up, MB", "bytes", more_is_better=False, panel="cost a round"),
        Measure("bytes-down", "down, MB", "bytes", more_is_better=False, panel="cost a round"),
        Measure("client-seconds", "clients, s", "seconds", more_is_better=False, panel="cost a round"),
        Measure("server-seconds", "server, s", "seconds", more_is_better=False, panel="cost a round"),
        Measure("seconds", "round, s", "seconds", more_is_better=False, panel="cost a round"),
        Measure(EPSILON, "epsilon", "epsilon", more_is_better=False, panel="privacy"),
        Measure(EPSILON_IF_SECRET, "epsilon, were the noise secret", "epsilon", more_is_better=False, panel="privacy"),
    )
}


def measure_of(key: str) -> Measure:
    """The measure of that key. Each domain has one, and clients' own models have the same ones as a global model."""
    if key.startswith(OWN):
        return replace(measure_of(key.removeprefix(OWN)), key=key)
    return MEASURES.get(key) or Measure(key, key.removeprefix(DOMAIN), panel="accuracy by domain")


def in_order(keys: Iterable[str]) -> list[Measure]:
    """Measures as a paper's table has them, the domains last."""
    places = {key: place for place, key in enumerate(MEASURES)}
    return [
        measure_of(key) for key in sorted(keys, key=lambda key: (places.get(key.removeprefix(OWN), len(places)), key))
    ]


@dataclass(frozen=True)
class RunNumbers:
    """The numbers of a finished run: accuracies in percent, bytes and seconds a round."""

    values: Mapping[str, float]
    accuracy_of: str  # what its headline is of, as summary.json says
    curve: Sequence[tuple[int, float]]  # (round, headline accuracy in percent) of every tested round
    tested_on: str = TEST_DATA  # or validation data

    @property
    def headline(self) -> float | None:
        """What rows are compared by, in percent; None if none of the run's models was tested."""
        return next((self.values[key] for key in HEADLINES if key in self.values), None)


def read_numbers(folder: Path, num_rounds: int | None = None) -> RunNumbers:
    """The numbers of a finished run.

    Args:
        folder: of the run.
        num_rounds: that the run must have; None if that is not known.

    Raises:
        OSError, ValueError, KeyError: the folder holds no finished run, or only a part of one.
    """
    try:
        summary = of_json((folder / SUMMARY_FILE).read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{SUMMARY_FILE}: {error}") from None
    rounds = read_rounds(folder)
    if num_rounds is not None and len(rounds) != num_rounds:
        raise ValueError(f"{METRICS_FILE} has {len(rounds)} of {num_rounds} rounds")
    clients, tested = summary["clients-tested"], summary["last-round"] or summary["clients-tested"] or {}
    accuracy_of, part = summary["accuracy-of"], summary.get("tested-on", TEST_DATA)
    shares: dict[str, float | None] = {name: summary["accuracy"][name] for name in ("mean-of-last-ten", "last", "best")}
    shares |= {f"{DOMAIN}{name}": share for name, share in (tested.get("domain_accuracy") or {}).items()}
    shares |= {name: tested.get(name) for name in ("head", "medium", "tail")}
    if accuracy_of == CLIENTS:
        shares = {f"{OWN}{name}": share for name, share in shares.items()}
    if clients:
        names_of = {"clients": "accuracy", "clients-deviation": "deviation", "worst-client": "worst"}
        shares |= {name: clients[key] for name, key in names_of.items()}
    percent = {name: 100 * share for name, share in shares.items() if share is not None}
    _, curve = judged_by(rounds, ClientsTested(**clients) if clients else None)
    values = percent | costs(rounds) | summary.get("privacy", {})
    return RunNumbers(values, accuracy_of, [(number, 100 * share) for number, share in curve], part)


def costs(rounds: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Bytes and seconds, means over the rounds. Clients are summed, and the server's time does not count its waiting.

    The clients' seconds are missing if no client told them (`privacy.withhold`).
    """
    clients = means(rounds, "client_seconds").values()
    return {
        "bytes-up": sum(means(rounds, "bytes_up").values()),
        "bytes-down": sum(means(rounds, "bytes_down").values()),
        **({"client-seconds": sum(clients)} if clients else {}),
        "server-seconds": sum(means(rounds, "server_seconds").values()),
        "seconds": statistics.fmean(line["seconds"] for line in rounds),
    }


def rounds_to(curve: Iterable[tuple[int, float]], target: float) -> int | None:
    """The first tested round whose accuracy is at least the target, up to rounding; None if there is none.

    Args:
        curve: (round, accuracy) in order.
        target: in the unit of the accuracies.
    """
    return next((number for number, accuracy in curve if accuracy >= target - ROUNDING * abs(target)), None)
