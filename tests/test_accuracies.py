"""Accuracies broken down, by hand."""

import pytest
import torch
from confusion import evaluation_of

from fedhpro_flwr.accuracies import Breakdown, ClientsTested, ServerTested, client_numbers, worse_than_alone
from fedhpro_flwr.records import OwnTest


def evaluation(*planes, loss=0.5):
    return evaluation_of(torch.tensor(planes), loss)


ONE = evaluation([[3, 1], [2, 2]])  # 5 of 8
TWO = evaluation([[3, 1], [0, 2]], [[0, 0], [5, 1]])  # domains 5/6 and 1/6


def test_without_a_breakdown_there_are_totals_and_classes():
    tested = ServerTested.of({"": ONE})
    assert (tested.accuracy, tested.loss, tested.score) == (5 / 8, 0.5, 5 / 8)
    assert tested.class_accuracy == [0.75, 0.5]
    assert (tested.head, tested.domain_accuracy, tested.mean_over_domains, tested.worst_domain) == (None, {}, None, "")
    assert (tested.by_prototype, tested.by_architecture) == (None, {})


def test_groups_of_classes():
    tested = ServerTested.of({"": ONE}, breakdown=Breakdown(class_groups=[[0], [], [1]]))
    assert (tested.head, tested.medium, tested.tail) == (0.75, None, 0.5)


def test_each_domain_counts_once():
    tested = ServerTested.of({"": TWO}, breakdown=Breakdown(domain_names=["here", "there"]))
    assert tested.domain_accuracy == {"here": 5 / 6, "there": 1 / 6}
    assert tested.mean_over_domains == tested.score == pytest.approx(0.5)
    assert tested.worst_domain == "there"
    assert tested.accuracy == 6 / 12
    nearest = ServerTested.of({"": ONE}, {"": TWO}, Breakdown(domain_names=["here", "there"]))
    assert nearest.by_prototype == pytest.approx(0.5)


def test_a_run_is_judged_by_the_mean_over_domains_and_not_by_all_samples():
    unequal = evaluation([[3, 0], [0, 0]], [[1, 0], [4, 1]])  # 3 of 3, and 2 of 6
    domains = Breakdown(domain_names=["here", "there"])
    tested = ServerTested.of({"": unequal}, {"": unequal}, domains)
    assert (tested.accuracy, tested.score, tested.by_prototype) == pytest.approx((5 / 9, 2 / 3, 2 / 3))
    assert ServerTested.of({"": unequal}).score == 5 / 9


def test_a_domain_without_samples_does_not_disturb():
    tested = ServerTested.of({"": ONE}, breakdown=Breakdown(domain_names=["here", "there"]))
    assert tested.domain_accuracy == {"here": 5 / 8, "there": None}
    assert (tested.mean_over_domains, tested.worst_domain) == (5 / 8, "here")


def test_architectures_are_tested_on_the_same_data_and_summed():
    other = evaluation([[4, 0], [0, 4]], loss=0.25)
    tested = ServerTested.of({"cnn": ONE, "mlp": other}, {"cnn": other, "mlp": other})
    assert tested.by_architecture == {"cnn": 5 / 8, "mlp": 1.0}
    assert (tested.accuracy, tested.loss, tested.by_prototype) == (13 / 16, 0.375, 1.0)


def test_clients_count_once_each_whatever_their_size():
    tests = [OwnTest(0, evaluation([[1, 1], [0, 0]])), OwnTest(1, evaluation([[90, 10], [0, 0]]))]
    tested = ClientsTested.of(tests)
    assert tested.accuracy == pytest.approx((0.5 + 0.9) / 2)
    assert tested.deviation == pytest.approx(0.2)
    assert (tested.clients, tested.worst, tested.worst_client) == (2, 0.5, 0)
    assert tested.class_accuracy == [91 / 102, None]  # classes pool the samples


def test_the_first_of_equally_bad_clients_is_the_worst():
    tests = [OwnTest(client, evaluation([[1, 1], [0, 0]])) for client in (4, 2, 3)]
    assert ClientsTested.of(tests).worst_client == 2


def test_the_worst_client_is_the_one_of_the_lowest_accuracy_whatever_its_number():
    tests = [OwnTest(client, evaluation([[right, 4 - right], [0, 0]])) for client, right in enumerate((3, 2, 1, 4))]
    tested = ClientsTested.of(tests)
    assert (tested.worst, tested.worst_client) == (0.25, 2)


def test_a_client_without_test_data_does_not_count():
    empty = OwnTest(0, evaluation([[0, 0], [0, 0]]), evaluation([[0, 0], [0, 0]]))
    assert ClientsTested.of([empty, OwnTest(1, ONE, ONE)]).accuracy == 5 / 8
    assert ClientsTested.of([empty, OwnTest(1, ONE, ONE)]).by_prototype == 5 / 8
    assert ClientsTested.of([empty]) is None
    assert ClientsTested.of([]) is None


def test_architectures_and_prototypes_of_clients():
    good, bad = evaluation([[2, 0], [0, 2]]), evaluation([[0, 2], [2, 0]])
    tests = [OwnTest(0, good, bad), OwnTest(1, bad, good), OwnTest(2, ONE, good)]
    tested = ClientsTested.of(tests, Breakdown(architectures=["cnn", "mlp", "cnn"]))
    assert tested.by_architecture == {"cnn": pytest.approx((1 + 5 / 8) / 2), "mlp": 0.0}
    assert tested.by_prototype == pytest.approx(2 / 3)


def test_a_clients_own_numbers():
    assert client_numbers(OwnTest(7, ONE)) == {"test-correct": 5, "test-examples": 8, "test-loss": 0.5}
    assert client_numbers(OwnTest(7, ONE, TWO))["test-correct-by-prototype"] == 6
    without = evaluation([[0, 0], [0, 0]], loss=0.0)  # as a client replies that has no test samples
    assert client_numbers(OwnTest(7, without)) == {"test-correct": 0, "test-examples": 0}


def line(client, correct, examples):
    return {"partition-id": client, "test-correct": correct, "test-examples": examples}


def test_worse_than_alone_counts_clients_that_both_runs_tested():
    alone = [line(0, 2, 4), line(1, 2, 4), line(2, 3, 4), line(3, 0, 0)]
    together = [line(0, 1, 4), line(1, 2, 4), line(2, 4, 4), line(3, 1, 4), line(4, 0, 4)]
    assert worse_than_alone(together, alone) == pytest.approx(1 / 3)  # an equal client is not worse
    assert worse_than_alone(together, []) is None
