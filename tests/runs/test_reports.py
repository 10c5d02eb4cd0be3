"""Numbers of a run: headline, means over clients and rounds."""

import json

import pytest

from fedhpro_flwr.accuracies import NO_BREAKDOWN, ServerTested
from fedhpro_flwr.records import Update
from fedhpro_flwr.runs.reports import RoundReport, headline, mean_loss, means
from fedhpro_flwr.timing import Stopwatch


def test_best_is_the_first_of_equals():
    found = headline([(1, 0.5), (2, 0.75), (3, 0.75), (4, 0.25)])
    assert found == {"best": 0.75, "best-round": 2, "last": 0.25, "mean-of-last-ten": 0.5625}


def test_mean_of_the_last_ten_of_more():
    found = headline([(number, number / 100) for number in range(1, 13)])
    assert found["mean-of-last-ten"] == pytest.approx(sum(range(3, 13)) / 1000)
    assert (found["best"], found["best-round"], found["last"]) == (0.12, 12, 0.12)


def test_rounds_that_were_not_tested_are_no_part_of_it():
    assert headline([(5, 0.5), (10, 0.25)]) == {"best": 0.5, "best-round": 5, "last": 0.25, "mean-of-last-ten": 0.375}


def test_nothing_tested():
    assert headline([]) == {"best": None, "best-round": None, "last": None, "mean-of-last-ten": None}


def test_means_count_an_absent_entry_as_zero():
    rounds = [{"x": {"a": 2.0}}, {"x": {"a": 4.0, "b": 3.0}}]
    assert means(rounds, "x") == {"a": 3.0, "b": 1.5}
    assert means([], "x") == {}


def test_means_leave_the_servers_waiting_out():
    line = {"server_seconds": {"waiting": 5.0, "matching": 1.0}, "bytes_up": {"waiting": 3}}
    assert means([line], "server_seconds") == {"matching": 1.0}
    assert means([line], "bytes_up") == {"waiting": 3.0}


def test_a_line_is_json():
    report = RoundReport(
        1,
        0.5,
        {"a": 1.0},
        {},
        {"model": 3},
        {},
        [{"partition-id": 0}],
        tested=ServerTested(accuracy=0.5, loss=1.0, class_accuracy=[None]),
    )
    line = json.loads(json.dumps(report.line(), allow_nan=False))
    assert line["server_round"] == 1
    assert line["tested"]["class_accuracy"] == [None]
    assert line["clients"] == [{"partition-id": 0}]
    assert line["set_aside"] == []


def test_a_clients_own_metrics_pass_for_no_test_and_for_no_other_client():
    said = {"train-loss": 0.5, "test-correct": 10.0, "test-examples": 10.0, "partition-id": 7.0, "began-anew": 1.0}
    given = {"watch": Stopwatch(), "breakdown": NO_BREAKDOWN, "bytes_down": {}, "bytes_up": {}, "set_aside": []}
    report = RoundReport.of(3, updates=[Update(2, 4, {}, {}, said)], tested=None, method={}, **given)
    assert report.clients == [{"train-loss": 0.5, "began-anew": 1.0, "partition-id": 2, "num-examples": 4}]
    assert report.began_anew == [2]


def test_a_loss_that_no_client_tells_is_none():
    told, untold = (Update(0, 4, {}, {}, metrics) for metrics in ({"train-loss": 0.5}, {}))
    assert (mean_loss([untold]), mean_loss([told, untold])) == (None, 0.5)
