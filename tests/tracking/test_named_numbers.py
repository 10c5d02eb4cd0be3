"""Every number of a round has a name, and what was not measured has none."""

import json
import re

import pytest

from fedhpro_flwr.accuracies import ClientsTested, ServerTested
from fedhpro_flwr.runs.reports import RoundReport, headline
from fedhpro_flwr.tracking import round_numbers, summary_numbers

BARE = RoundReport(3, 1.5, {}, {}, {}, {}, [{"partition-id": 0}, {"partition-id": 2}], train_loss=0.75)


def test_a_round_without_tests_has_the_loss_the_replies_and_the_seconds():
    assert round_numbers(BARE) == {
        "train/loss": 0.75,
        "replies/good": 2.0,
        "replies/set-aside": 0.0,
        "seconds/round": 1.5,
    }


def full(domains):
    return RoundReport(
        server_round=7,
        seconds=2.5,
        server_seconds={"waiting": 2.0, "matching": 0.25},
        client_seconds={"local-training": 1.75},
        bytes_down={"model": 100, "hyper-prototypes": 20},
        bytes_up={"model": 90, "class-gradients": 10},
        clients=[{"partition-id": 4, "train-loss": 9.0}],
        set_aside=["client 1: not finite", "client 2: late"],
        train_loss=0.5,
        received=ClientsTested(
            clients=2, accuracy=0.625, deviation=0.125, worst=0.5, worst_client=4, head=0.75, domain_accuracy=domains
        ),
        tested=ServerTested(
            accuracy=0.8125,
            loss=0.375,
            class_accuracy=[0.5, None],
            head=1.0,
            medium=0.875,
            tail=0.0,
            domain_accuracy=domains,
            mean_over_domains=0.25,
            worst_domain="usps",
            by_prototype=0.6875,
            by_architecture={"cnn": 0.75},
        ),
        method={"matching-distance": 0.0625},
    )


def test_every_number_of_a_round_is_named():
    assert round_numbers(full({"mnist": 0.5, "usps": 0.0, "svhn": None})) == {
        "train/loss": 0.5,
        "replies/good": 1.0,
        "replies/set-aside": 2.0,
        "seconds/round": 2.5,
        "seconds/server/waiting": 2.0,
        "seconds/server/matching": 0.25,
        "seconds/client/local-training": 1.75,
        "bytes/down/model": 100.0,
        "bytes/down/hyper-prototypes": 20.0,
        "bytes/up/model": 90.0,
        "bytes/up/class-gradients": 10.0,
        "method/matching-distance": 0.0625,
        "server/accuracy": 0.8125,
        "server/loss": 0.375,
        "server/head": 1.0,
        "server/medium": 0.875,
        "server/tail": 0.0,
        "server/mean-over-domains": 0.25,
        "server/by-prototype": 0.6875,
        "server/domain/mnist": 0.5,
        "server/domain/usps": 0.0,
        "server/architecture/cnn": 0.75,
        "clients/mean": 0.625,
        "clients/deviation": 0.125,
        "clients/worst": 0.5,
        "clients/head": 0.75,
        "clients/domain/mnist": 0.5,
        "clients/domain/usps": 0.0,
    }


def test_all_are_floats_and_the_report_is_left_alone():
    report = full({"mnist": 0.5})
    before = json.dumps(report.line())
    assert {type(value) for value in round_numbers(report).values()} == {float}
    assert json.dumps(report.line()) == before


@pytest.mark.parametrize(
    ("domain", "name"),
    [("clip&art", "clip_art"), ("a/b", "a_b"), ("Ärzte 2.0-x", "Ärzte 2.0-x"), ("100%", "100_"), ("a:b", "a_b")],
)
def test_a_domain_of_any_name_gets_one_that_every_tracker_takes(domain, name):
    numbers = round_numbers(full({domain: 0.5}))
    assert numbers[f"server/domain/{name}"] == 0.5
    assert [name for name in numbers if not re.fullmatch(r"[/\w. -]+", name)] == []


def test_domains_whose_names_become_one_are_told_apart():
    numbers = round_numbers(full({"a&b": 0.5, "a+b": 0.25, "a_b": 0.75}))
    assert {name: value for name, value in numbers.items() if name.startswith("server/domain/")} == {
        "server/domain/a_b": 0.5,
        "server/domain/a_b 2": 0.25,
        "server/domain/a_b 3": 0.75,
    }


def test_a_summary_has_best_last_and_mean_of_the_last_ten():
    content = {"accuracy": headline([(1, 0.5), (2, 1.0), (3, 0.75)]), "accuracy-of": "test data", "seconds": 9.0}
    assert summary_numbers(content) == {
        "summary/best": 1.0,
        "summary/best-round": 2.0,
        "summary/last": 0.75,
        "summary/mean-of-last-ten": 0.75,
    }


def test_a_run_that_tested_nothing_has_no_summary():
    assert summary_numbers({"accuracy": headline([])}) == {}
