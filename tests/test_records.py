"""The wire: what comes back equals what went, and a reply with any fault is refused with its name."""

import math
import re

import numpy as np
import pytest
import torch
from flwr.app import Array, ArrayRecord, ConfigRecord, Error, Message, MetricRecord, RecordDict
from flwr.supercore.task_identity import TaskIdentity

from fedhpro_flwr.config import ConfigError, RunConfig
from fedhpro_flwr.metrics import Evaluation
from fedhpro_flwr.records import (
    OwnTest,
    Task,
    Update,
    array_record,
    error_reason,
    numbers_of,
    pack_broadcast,
    pack_test,
    pack_update,
    record_bytes,
    tensors_of,
    unpack_broadcast,
)
from fedhpro_flwr.reply_checks import BadReply, Expected, unpack_test, unpack_update

MODEL = {
    "encoder.weight": torch.tensor([[1.5, -2.0, 1e-40], [3.0, 0.1, -0.0]]),
    "encoder.batches": torch.tensor(7),
    "encoder.running_var": torch.tensor([1.0, 0.0]),
    "head.weight": torch.ones(4, 2),
    "head.bias": torch.zeros(4),
}
SENT = {
    "class-gradients": torch.tensor([[0.5, 0.25], [1.0, -1.0]]),
    "class-ids": torch.tensor([3, 0]),
    "class-counts": torch.tensor([5, 1]),
}
EXPECTED = Expected(MODEL, {"class-gradients": ("P", 2), "class-ids": ("P",), "class-counts": ("P",)}, 4)


@pytest.fixture(autouse=True)
def identity():
    TaskIdentity.run_id = TaskIdentity.node_id = TaskIdentity.task_id = 1


def to_client(content):
    return Message(content, dst_node_id=7, message_type="train")


def reply_with(content):
    return Message(content, reply_to=to_client(RecordDict()))


def reply(**changes):
    """A good reply with some records replaced; None leaves one out."""
    records = dict(pack_update(Update(2, 6, MODEL, SENT, {"train-loss": 0.5})))
    records |= {name.replace("_", "-"): value for name, value in changes.items()}
    return reply_with(RecordDict({name: value for name, value in records.items() if value is not None}))


def same_bits(one, other):
    return one.dtype == other.dtype and one.shape == other.shape and one.numpy().tobytes() == other.numpy().tobytes()


def test_an_update_comes_back_bit_for_bit():
    update = unpack_update(reply(), EXPECTED)
    assert (update.partition_id, update.num_examples, update.metrics) == (2, 6, {"train-loss": 0.5})
    assert update.model.keys() == MODEL.keys()
    assert update.tensors.keys() == SENT.keys()
    assert all(same_bits(update.model[name], MODEL[name]) for name in MODEL)
    assert all(same_bits(update.tensors[name], SENT[name]) for name in SENT)


def test_layouts_that_are_not_contiguous_come_back_with_the_same_values():
    tensor = torch.arange(48.0).view(2, 3, 2, 4).to(memory_format=torch.channels_last)
    assert torch.equal(tensors_of(array_record({"x": tensor, "y": tensor.mT}))["x"], tensor)
    assert torch.equal(tensors_of(array_record({"y": tensor.mT}))["y"], tensor.mT)


def test_packed_tensors_are_copies():
    tensor = torch.zeros(3)
    record = array_record({"x": tensor})
    tensor += 1
    assert tensors_of(record)["x"].tolist() == [0, 0, 0]


def test_a_client_may_hold_no_class():
    none = {
        "class-gradients": torch.zeros(0, 2),
        "class-ids": SENT["class-ids"][:0],
        "class-counts": SENT["class-ids"][:0],
    }
    update = unpack_update(reply_with(pack_update(Update(0, 1, MODEL, none))), EXPECTED)
    assert len(update.tensors["class-ids"]) == 0


def test_records_that_nobody_expects_are_left_alone():
    assert unpack_update(reply(extra=array_record({"x": torch.zeros(2)})), EXPECTED).tensors.keys() == SENT.keys()


def one(name, tensor):
    return array_record({name: tensor})


def model_with(**changes):
    model = MODEL | {name.replace("__", "."): value for name, value in changes.items()}
    return array_record({name: value for name, value in model.items() if value is not None})


def metrics(**numbers):
    values = {"num-examples": 6, "partition-id": 2, "train-loss": 0.5}
    values |= {name.replace("_", "-"): value for name, value in numbers.items()}
    return MetricRecord({name: value for name, value in values.items() if value is not None})


NAN, INF = float("nan"), float("inf")
IDS, COUNTS, GRADIENTS = SENT["class-ids"], SENT["class-counts"], SENT["class-gradients"]
FAULTS = {
    "NaN in the model": (
        {"model": model_with(head__bias=torch.tensor([0, NAN, 0, 0]))},
        "model tensor head.bias is not finite",
    ),
    "infinity in the model": (
        {"model": model_with(head__bias=torch.tensor([0, -INF, 0, 0]))},
        "model tensor head.bias is not finite",
    ),
    "NaN in the gradients": (
        {"class_gradients": one("class-gradients", GRADIENTS * NAN)},
        "class-gradients is not finite",
    ),
    "infinity in the gradients": (
        {"class_gradients": one("class-gradients", GRADIENTS * INF)},
        "class-gradients is not finite",
    ),
    "model shape": (
        {"model": model_with(head__bias=torch.zeros(5))},
        "model tensor head.bias has shape [5], [4] was expected",
    ),
    "model shape that would broadcast": (
        {"model": model_with(head__bias=torch.zeros(1))},
        "model tensor head.bias has shape [1], [4] was expected",
    ),
    "model type": (
        {"model": model_with(head__bias=torch.zeros(4, dtype=torch.float64))},
        "model tensor head.bias has type torch.float64, torch.float32 was expected",
    ),
    "model counter type": (
        {"model": model_with(encoder__batches=torch.tensor(7.0))},
        "model tensor encoder.batches has type torch.float32, torch.int64 was expected",
    ),
    "model counter that would overflow": (
        {"model": model_with(encoder__batches=torch.tensor(2**63 - 1))},
        "model tensor encoder.batches moved by more than 2147483648",
    ),
    "negative variance": (
        {"model": model_with(encoder__running_var=torch.tensor([1.0, -1e-9]))},
        "model tensor encoder.running_var is a variance and has a negative entry",
    ),
    "model tensor missing": ({"model": model_with(head__bias=None)}, "the model lacks tensor head.bias"),
    "model tensor unknown": (
        {"model": model_with(backdoor=torch.zeros(1))},
        "the model has an unknown tensor backdoor",
    ),
    "gradient width": (
        {"class_gradients": one("class-gradients", torch.zeros(2, 3))},
        "class-gradients has shape [2, 3], [2, 2] was expected",
    ),
    "gradient rows": (
        {"class_gradients": one("class-gradients", torch.zeros(3, 2))},
        "class-gradients has shape [3, 2], [2, 2] was expected",
    ),
    "count rows": (
        {"class_counts": one("class-counts", torch.tensor([1]))},
        "class-counts has shape [1], [2] was expected",
    ),
    "gradient type": (
        {"class_gradients": one("class-gradients", GRADIENTS.double())},
        "class-gradients has type torch.float64, torch.float32 was expected",
    ),
    "id type": (
        {"class_ids": one("class-ids", IDS.float())},
        "class-ids has type torch.float32, torch.int64 was expected",
    ),
    "id without dimension": (
        {"class_ids": one("class-ids", torch.tensor(1))},
        "class-gradients has shape [2, 2], [0, 2] was expected",
    ),
    "unknown class": ({"class_ids": one("class-ids", torch.tensor([3, 4]))}, "class id 4 is unknown, there are 0 to 3"),
    "negative class": (
        {"class_ids": one("class-ids", torch.tensor([-1, 0]))},
        "class id -1 is unknown, there are 0 to 3",
    ),
    "class twice": ({"class_ids": one("class-ids", torch.tensor([3, 3]))}, "a class id comes twice"),
    "negative count": (
        {"class_counts": one("class-counts", torch.tensor([5, -1]))},
        "class count -1, it must be positive",
    ),
    "more samples of the classes than in all": (
        {"class_counts": one("class-counts", torch.tensor([5, 2]))},
        "class counts add up to 7, num-examples is 6",
    ),
    "a count that would overflow the sum": (
        {"class_counts": one("class-counts", torch.tensor([2**63 - 1, 1]))},
        f"class counts add up to {2**63}, num-examples is 6",
    ),
    "zero count": ({"class_counts": one("class-counts", torch.tensor([0, 5]))}, "class count 0, it must be positive"),
    "num-examples 0": ({"metrics": metrics(num_examples=0)}, "num-examples = 0, it must be a positive whole number"),
    "num-examples negative": (
        {"metrics": metrics(num_examples=-3)},
        "num-examples = -3, it must be a positive whole number",
    ),
    "num-examples beyond all data": ({"metrics": metrics(num_examples=2**40 + 1)}, f"num-examples is above {2**40}"),
    "num-examples float": (
        {"metrics": metrics(num_examples=6.0)},
        "num-examples = 6.0, it must be a positive whole number",
    ),
    "num-examples NaN": (
        {"metrics": metrics(num_examples=NAN)},
        "num-examples = nan, it must be a positive whole number",
    ),
    "num-examples list": ({"metrics": metrics(num_examples=[6])}, "'num-examples' is missing"),
    "num-examples missing": ({"metrics": metrics(num_examples=None)}, "'num-examples' is missing"),
    "partition missing": ({"metrics": metrics(partition_id=None)}, "'partition-id' is missing"),
    "partition float": ({"metrics": metrics(partition_id=2.0)}, "partition-id = 2.0, it must be a whole number"),
    "metric NaN": ({"metrics": metrics(train_loss=NAN)}, "metric train-loss = nan is not finite"),
    "metric infinite": ({"metrics": metrics(train_loss=INF)}, "metric train-loss = inf is not finite"),
    "metric that sums to infinity": ({"metrics": metrics(train_loss=-1e101)}, "metric train-loss is beyond 1e+100"),
    "metric with a name for the screen": (
        {"metrics": MetricRecord({"num-examples": 6, "partition-id": 2, "a\x1b[2J": 1.0})},
        "a metric's name is not printable or longer than 100 characters",
    ),
    "metric with a long name": (
        {"metrics": MetricRecord({"num-examples": 6, "partition-id": 2, "a" * 101: 1.0})},
        "a metric's name is not printable or longer than 100 characters",
    ),
    "too many metrics": (
        {"metrics": MetricRecord({"num-examples": 6, "partition-id": 2} | {f"m{i}": i for i in range(1001)})},
        "1001 metrics, there may be 1000",
    ),
    "metrics missing": ({"metrics": None}, "'metrics' is missing"),
    "metrics of another kind": ({"metrics": ConfigRecord({"num-examples": 6})}, "'metrics' is missing"),
    "model missing": ({"model": None}, "'model' is missing"),
    "gradients missing": ({"class_gradients": None}, "'class-gradients' is missing"),
    "counts missing": ({"class_counts": None}, "'class-counts' is missing"),
    "tensor under another name": ({"class_ids": one("ids", IDS)}, "'class-ids' is missing"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_bad_reply_is_named(fault):
    changes, sentence = FAULTS[fault]
    with pytest.raises(BadReply) as refused:
        unpack_update(reply(**changes), EXPECTED)
    assert str(refused.value) == sentence


@pytest.mark.parametrize(
    "array",
    [
        Array("float32", (4,), "numpy.ndarray", b""),
        Array("float32", (4,), "numpy.ndarray", b"PK\x03\x04 no zip"),
        Array("float32", (4,), "numpy.ndarray", b"\x93NUMPY\x01\x00\x05\x00{'a'"),
        Array("float32", (4,), "pickle", b"cos\nsystem\n"),
        Array(np.array(["a", "b", "c", "d"])),
        Array(np.zeros(4, ">f4")),
    ],
    ids=["empty", "no zip", "cut header", "other format", "text", "big endian"],
)
def test_bytes_that_are_no_tensor_are_refused(array):
    model = model_with(head__bias=None)
    model["head.bias"] = array
    with pytest.raises(BadReply, match=r"^a record cannot be read"):
        unpack_update(reply(model=model), EXPECTED)


def test_the_broadcast_comes_back_with_all_settings_and_the_task():
    config = RunConfig.parse({"preset": "reference", "rounds": 3, "data.path": "a b", "local.flip": False})
    task = Task(4, 2, True, "code", "data")
    prototypes = torch.randn(4, 5, 2, generator=torch.Generator().manual_seed(0))
    content = pack_broadcast(
        array_record(MODEL), {"hyper-prototypes": array_record({"hyper-prototypes": prototypes})}, config.flat(), task
    )
    received = unpack_broadcast(to_client(content))
    assert received.config == config
    assert received.task == task
    assert all(same_bits(received.model[name], MODEL[name]) for name in MODEL)
    assert received.tensors.keys() == {"hyper-prototypes"}
    assert same_bits(received.tensors["hyper-prototypes"], prototypes)


def test_settings_that_the_client_does_not_know_are_named():
    content = pack_broadcast(array_record(MODEL), {}, RunConfig.parse({}).flat() | {"local.new": 1}, Task(1, 0))
    with pytest.raises(ConfigError, match=r"^unknown key local\.new"):
        unpack_broadcast(to_client(content))


def test_a_broadcast_without_a_model_is_a_missing_key():
    with pytest.raises(KeyError, match="model"):
        unpack_broadcast(to_client(RecordDict({"config": ConfigRecord({"task.server-round": 1})})))


def test_numbers_of_leaves_lists_out():
    assert numbers_of(MetricRecord({"a": 1, "b": 0.5, "c": [1, 2]})) == {"a": 1, "b": 0.5}


def test_record_bytes_are_those_of_the_serialised_tensors():
    header = 128  # of NumPy's format
    assert record_bytes(pack_update(Update(2, 6, MODEL, SENT))) == {
        "model": 5 * header + 24 + 8 + 8 + 32 + 16,
        "class-gradients": header + 16,
        "class-ids": header + 16,
        "class-counts": header + 16,
    }
    assert record_bytes(RecordDict({"empty": ArrayRecord()})) == {"empty": 0}


@pytest.mark.parametrize(
    ("reason", "wanted"),
    [
        ("client 1: no data", "client 1: no data"),
        ("Traceback:\n  line\nValueError: x\n\n", "ValueError: x"),
        ("", "no reason was given"),
        (" \n", "no reason was given"),
    ],
)
def test_error_reason(reason, wanted):
    assert error_reason(Message(Error(code=1, reason=reason), reply_to=to_client(RecordDict()))) == wanted


def test_an_entry_that_would_overflow_is_refused():
    content = pack_update(Update(1, 6, MODEL, SENT))
    bias = content["model"]["head.bias"].numpy().copy()
    bias[0] = 2e9
    content["model"]["head.bias"] = Array(bias)
    with pytest.raises(BadReply, match=r"model tensor head\.bias has an entry beyond 1e\+09"):
        unpack_update(reply_with(content), EXPECTED)


@pytest.mark.parametrize(("most", "refused"), [(0.0, False), (5.01, False), (4.99, True)])
def test_a_model_that_moved_too_far_is_refused(most, refused):
    """By a step of (3, 4) in two tensors: counters do not count."""
    moved = MODEL | {
        "head.bias": MODEL["head.bias"] + torch.tensor([3.0, 0, 0, 0]),
        "head.weight": MODEL["head.weight"] - torch.tensor([[4.0, 0]] + 3 * [[0, 0]]),
        "encoder.batches": torch.tensor(99),
    }
    expected = Expected(MODEL, EXPECTED.records, 4, max_update_norm=most)
    answer = reply(model=array_record(moved))
    if not refused:
        assert torch.equal(unpack_update(answer, expected).model["head.bias"], moved["head.bias"])
        return
    with pytest.raises(BadReply, match=r"^the model moved by 5, aggregation\.max-update-norm = 4\.99$"):
        unpack_update(answer, expected)


# --- a client's own test


def unpacked(cells, domains=1, **numbers):
    content = {
        "confusion": array_record({"confusion": torch.tensor(cells, dtype=torch.int64).reshape(-1, 4)}),
        "metrics": MetricRecord({"partition-id": 3, "test-loss": 0.5} | numbers),
    }
    return unpack_test(RecordDict(content), 10, domains)


def test_a_clients_own_test_comes_back():
    test = OwnTest(3, Evaluation.of_confusion(torch.eye(10, dtype=torch.int64)[None] * 7, 0.5))
    again = unpack_test(pack_test(test), 10)
    assert (again.partition_id, again.by_head.loss, again.by_prototype) == (3, 0.5, None)
    assert torch.equal(again.by_head.confusion, test.by_head.confusion)
    both = unpack_test(pack_test(OwnTest(3, test.by_head, test.by_head)), 10)
    assert both.by_prototype.examples == 70
    assert unpacked([]).by_head.examples == 0


@pytest.mark.parametrize(
    ("cells", "domains", "sentence"),
    [
        ([[0, 1, 2, -1]], 1, "confusion: a count is -1, it must be positive"),
        ([[0, 1, 2, 0]], 1, "confusion: a count is 0, it must be positive"),
        ([[0, 10, 2, 1]], 1, "confusion: class id 10 is unknown, there are 0 to 9"),
        ([[0, 1, -1, 1]], 1, "confusion: class id -1 is unknown, there are 0 to 9"),
        ([[1, 1, 1, 1]], 1, "confusion: domain id 1 is unknown, there are 0 to 0"),
        ([[4, 1, 1, 1]], 4, "confusion: domain id 4 is unknown, there are 0 to 3"),
        ([[0, 1, 1, 1], [0, 1, 1, 2]], 1, "confusion: a cell comes twice"),
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
