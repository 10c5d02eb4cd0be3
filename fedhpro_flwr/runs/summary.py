"""summary.json: the results of a finished run, and of what it is compared with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from fedhpro_flwr.accuracies import Breakdown, ClientsTested, client_numbers, worse_than_alone
from fedhpro_flwr.client.privacy import worst_spent
from fedhpro_flwr.config import ConfigError, RunConfig
from fedhpro_flwr.home_folder import expanded
from fedhpro_flwr.records import OwnTest
from fedhpro_flwr.runs.read_json import of_json
from fedhpro_flwr.runs.reports import headline
from fedhpro_flwr.runs.run_folder import CONFIG_FILE, SUMMARY_FILE
from fedhpro_flwr.settings.places import without_places
from fedhpro_flwr.settings.recorded import read_recorded

Line = Mapping[str, Any]
TEST_DATA, VALIDATION_DATA = "test data", "validation data"
ALONE = ("partition-id", "test-correct", "test-examples")  # what is read of a local-only run


def summary(
    rounds: Sequence[Line],
    tests: Sequence[OwnTest],
    breakdown: Breakdown,
    domains: Sequence[str],
    alone: Sequence[Line],
    part: str = TEST_DATA,
) -> dict[str, Any]:
    """The content of the summary but for the seconds.

    Args:
        rounds: the lines of metrics.jsonl.
        tests: the clients' own tests, after the last round.
        breakdown: what accuracies are broken down by.
        domains: of each client [N].
        alone: the clients of a local-only run on the same partition; empty if there is none to compare with.
        part: what models are tested on, see `judging_data`.
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
    measure, accuracies = judged_by(rounds, final, part)
    spent = worst_spent(line["method"] for line in rounds)
    return {
        "accuracy": headline(accuracies),
        "accuracy-of": measure,
        "tested-on": part,
        "last-round": rounds[-1]["tested"],
        "clients-tested": final and asdict(final),
        "num-clients": len(domains),
        "worse-than-alone": worse_than_alone(clients, alone),
        "clients": clients,
    } | ({"privacy": spent} if spent else {})


def judging_data(config: RunConfig) -> str:
    """What the models of a run are tested on: with data.validation-share no test sample is looked at by anybody.

    The clients' own test parts are cut from the same samples as the server's (`Federation`).
    """
    return VALIDATION_DATA if config.data.validation_share else TEST_DATA


def told(measure: str, part: str) -> str:
    """What a headline accuracy is of, for people: "mean over clients" does not say that it is on validation data."""
    return measure if part in (TEST_DATA, measure) else f"{measure}, {part}"


def judged_by(
    rounds: Sequence[Line], final: ClientsTested | None, part: str = TEST_DATA
) -> tuple[str, list[tuple[int, float]]]:
    """What the headline accuracy is of, and (round, accuracy) of every tested round.

    It is that of the global model on the server's test data (`part`: or validation data), as a mean over domains if it
    has any. Without a global model it is the mean over the clients' models, each on its client's own data.
    """
    tested = [(line["server_round"], line["tested"]) for line in rounds if line["tested"]]
    if tested and tested[0][1]["mean_over_domains"] is not None:
        known = ((number, line["mean_over_domains"]) for number, line in tested)
        return "mean over domains", [(number, accuracy) for number, accuracy in known if accuracy is not None]
    if tested:
        return part, [(number, line["accuracy"]) for number, line in tested]
    if final is None:
        return "mean over clients", []
    # A round reports the models it began with, which are those that the round before ended with. If only some clients
    # are drawn in a round, their mean says nothing of all: only rounds that test as many as the final test count.
    received = [(line["server_round"] - 1, line["received"]) for line in rounds if line["received"]]
    clients = [(number, line["accuracy"]) for number, line in received if line["clients"] >= final.clients]
    return "mean over clients", [*clients, (rounds[-1]["server_round"], final.accuracy)]


def read_alone(config: RunConfig) -> Sequence[Line]:
    """The clients of the finished local-only run `evaluation.alone`, for `worse_than_alone`; none if no run is named.

    Raises:
        ConfigError: the folder holds no finished run, one of another method, or one on other data.
    """
    folder = config.evaluation.alone
    if not folder:
        return ()
    path = expanded(folder)
    try:
        said = of_json((path / SUMMARY_FILE).read_text(encoding="utf-8"))
        clients = [{key: client[key] for key in ALONE} for client in said["clients"] if client.get("test-examples")]
        other = read_recorded(path / CONFIG_FILE)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise ConfigError(f"evaluation.alone = {folder!r} holds no finished run") from None
    if other.method.name != "local":
        raise ConfigError(
            f"evaluation.alone = {folder!r} is a run of {other.method.name}, method.name = 'local' is needed"
        )
    here, there = without_places(config.flat()), without_places(other.flat())
    for key in here:
        if key.startswith(("data.", "partition.", "seed")) and here[key] != there[key]:
            raise ConfigError(f"evaluation.alone = {folder!r} has {key} = {there[key]!r}, this run {here[key]!r}")
    return clients
