"""A client's own test on the wire: it comes back as it was, and one that cannot be is refused."""

import math
import re

import pytest
import torch
from confusion import confusion_of, evaluation_of
from flwr.app import MetricRecord, RecordDict

from fedhpro_flwr.records import OwnTest, array_record, pack_test
from fedhpro_flwr.server.reply_checks import BadReply, unpack_test


def unpacked(cells, domains=1, **numbers):
    content = {
        "confusion": array_record({"confusion": torch.tensor(cells, dtype=torch.int64).reshape(-1, 4)}),
        "metrics": MetricRecord({"partition-id": 3, "test-loss": 0.5} | numbers),
    }
    return unpack_test(RecordDict(content), 10, domains)


def test_a_clients_own_test_comes_back():
    test = OwnTest(3, evaluation_of(torch.eye(10, dtype=torch.int64)[None] * 7, 0.5))
    again = unpack_test(pack_test(test), 10)
    assert (again.partition_id, again.by_head.loss, again.by_prototype) == (3, 0.5, None)
    assert torch.equal(confusion_of(again.by_head), confusion_of(test.by_head))
    both = unpack_test(pack_test(OwnTest(3, test.by_head, test.by_head)), 10)
    assert both.by_prototype.examples == 70
    assert unpacked([]).by_head.examples == 0


def test_every_cell_may_be_there():
    test = OwnTest(3, evaluation_of(torch.ones(2, 10, 10, dtype=torch.int64), 0.5))
    assert unpack_test(pack_test(test), 10, 2).by_head.examples == 200


@pytest.mark.parametrize(
    ("cells", "domains", "sentence"),
    [
        ([[0, 1, 2, -1]], 1, "confusion: a count is -1, it must be positive"),
        ([[0, 1, 2, 0]], 1, "confusion: a count is 0, it must be positive"),
        ([[0, 10, 2, 1]], 1, "confusion: class id 10 is unknown, there are 0 to 9"),
        ([[0, 1, -1, 1]], 1, "confusion: class id -1 is unknown, there are 0 to 9"),
        ([[1, 1, 1, 1]], 1, "domain id 1 is unknown, there are 0 to 0; the strategy's `breakdown` names"),
        ([[1, 1, 1, 1]] * 201, 1, "confusion: domain id 1 is unknown"),
        ([[4, 1, 1, 1]], 4, "confusion: domain id 4 is unknown, there are 0 to 3"),
        ([[0, 1, 1, 1], [0, 1, 1, 2]], 1, "confusion: a cell comes twice"),
        ([[0, 1, 1, 1]] * 201, 2, "confusion has 201 cells, there are 200"),
        ([[0, 1, 1, 2**41]], 1, "it must be positive and at most 1099511627776"),
        ([[0, 1, 1, 2**40], [0, 1, 2, 1]], 1, "confusion: more than 1099511627776 samples"),
    ],
)
def test_a_confusion_that_cannot_be_is_refused(cells, domains, sentence):
    with pytest.raises(BadReply, match=re.escape(sentence)):
        unpacked(cells, domains)


@pytest.mark.parametrize(
    ("numbers", "sentence"),
    [({"partition-id": 1.5}, "partition-id = 1.5"), ({"test-loss": math.nan}, "metric test-loss = nan is not finite")],
)
def test_a_test_with_bad_numbers_is_refused(numbers, sentence):
    with pytest.raises(BadReply, match=sentence):
        unpacked([[0, 1, 1, 1]], **numbers)


def test_a_test_without_a_confusion_or_of_another_shape_is_refused():
    metrics = MetricRecord({"partition-id": 3})
    with pytest.raises(BadReply, match="'confusion' is missing"):
        unpack_test(RecordDict({"metrics": metrics}), 10)
    with pytest.raises(BadReply, match=r"partition-id = None"):
        unpack_test(RecordDict(), 10)
    for wrong in (torch.zeros(2, 3, dtype=torch.int64), torch.zeros(4), torch.tensor(1)):
        with pytest.raises(BadReply, match=r"confusion has "):
            unpack_test(RecordDict({"metrics": metrics, "confusion": array_record({"confusion": wrong})}), 10)
