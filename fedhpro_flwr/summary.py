"""summary.json: what a finished run says of itself, and what it is compared with."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from fedhpro_flwr.accuracies import Breakdown, ClientsTested, client_numbers, worse_than_alone
from fedhpro_flwr.config import ConfigError
from fedhpro_flwr.records import OwnTest
from fedhpro_flwr.reports import headline
from fedhpro_flwr.run_folder import PARTITION_FILE, SUMMARY_FILE

Line = Mapping[str, Any]


def summary(
    rounds: Sequence[Line],
    tests: Sequence[OwnTest],
    breakdown: Breakdown,
    domains: Sequence[str],
    alone: Sequence[Line],
) -> dict[str, Any]:
    """Everything but the seconds.

    Args:
        rounds: the lines of metrics.jsonl.
        tests: the clients' own, after the last round.
        breakdown: along what they are broken down.
        domains: of each client [N].
        alone: the clients of a local-only run on the same partition; empty if there is none to compare with.
    """
    final = ClientsTested.of(tests, breakdown)
    clients = [
        {
            "partition-id": test.partition_id,
            "architecture": breakdown.architectures[test.partition_id] if breakdown.architectures else "",
            "domain": domains[test.partition_id],
            **client_numbers(test),
            "class-accuracy": test.by_head.class_accuracy(),
        }
        for test in tests
    ]
    measure, accuracies = judged_by(rounds, final)
    return {
        "accuracy": headline(accuracies),
        "accuracy-of": measure,
        "last-round": rounds[-1]["tested"],
        "clients-tested": final and asdict(final),
        "worse-than-alone": worse_than_alone(clients, alone),
        "clients": clients,
    }


def judged_by(rounds: Sequence[Line], final: ClientsTested | None) -> tuple[str, list[tuple[int, float]]]:
    """What the headline accuracy is of, and (round, accuracy) of every tested round.

    The global model on the server's test data, the mean over domains where there are any; where there is no global
    model, the mean over the clients' models on their own test data.
    """
    tested = [(line["server_round"], line["tested"]) for line in rounds if line["tested"]]
    if tested and tested[0][1]["mean_over_domains"] is not None:
        return "mean over domains", [(number, line["mean_over_domains"]) for number, line in tested]
    if tested:
        return "test data", [(number, line["accuracy"]) for number, line in tested]
    # A round reports the models it began with, which are those that the round before ended with.
    clients = [(line["server_round"] - 1, line["received"]["accuracy"]) for line in rounds if line["received"]]
    if final:
        clients.append((rounds[-1]["server_round"], final.accuracy))
    return "mean over clients", clients


def read_alone(folder: str, fingerprint: str) -> Sequence[Line]:
    """The clients of a finished local-only run, for `worse_than_alone`; none if no folder is named.

    Raises:
        ConfigError: the folder holds no finished run, or one on another partition.
    """
    if not folder:
        return ()
    path = Path(folder).expanduser()
    try:
        clients = json.loads((path / SUMMARY_FILE).read_text(encoding="utf-8"))["clients"]
        other = json.loads((path / PARTITION_FILE).read_text(encoding="utf-8"))["fingerprint"]
    except (OSError, ValueError, KeyError):
        raise ConfigError(f"evaluation.alone = {folder!r} holds no finished run") from None
    if other != fingerprint:
        raise ConfigError(
            f"evaluation.alone = {folder!r} divides its data otherwise ({other}) than this run ({fingerprint}); "
            "run method.name = 'local' with the same data, partition and seed"
        )
    return list(clients)
