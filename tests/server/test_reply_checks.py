"""A reply with any fault is refused, and the fault is named."""

import numpy as np
import pytest
import torch
from flwr.app import Array, ConfigRecord, Error, Message, MetricRecord, RecordDict
from good_reply import EXPECTED, MODEL, SENT, model_with, reply, reply_with, to_client

from fedhpro_flwr.config import ConfigError
from fedhpro_flwr.exchange import GlobalModel
from fedhpro_flwr.records import Update, array_record, pack_update
from fedhpro_flwr.server.replies import collect
from fedhpro_flwr.server.reply_checks import DIVERGED, BadReply, Expected, refuse_unsendable, unpack_update


def one(name, tensor):
    return array_record({name: tensor})


def metrics(**numbers):
    values = {"num-examples": 6, "partition-id": 2, "train-loss": 0.5}
    values |= {name.replace("_", "-"): value for name, value in numbers.items()}
    return MetricRecord({name: value for name, value in values.items() if value is not None})


NAN, INF = float("nan"), float("inf")
IDS, COUNTS, GRADIENTS = SENT["class-ids"], SENT["class-counts"], SENT["class-gradients"]
FAULTS = {
    "NaN in the model": (
        {"model": model_with(head__bias=torch.tensor([0, NAN, 0, 0]))},
        f"model tensor head.bias is not finite{DIVERGED}",
    ),
    "infinity in the model": (
        {"model": model_with(head__bias=torch.tensor([0, -INF, 0, 0]))},
        f"model tensor head.bias is not finite{DIVERGED}",
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
    "record of nobody": (
        {"client_mean": one("client-mean", torch.ones(2))},
        "record client-mean is none that the method's `expects` names",
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
    "metric NaN": ({"metrics": metrics(train_loss=NAN)}, f"metric train-loss = nan is not finite{DIVERGED}"),
    "metric infinite": ({"metrics": metrics(train_loss=INF)}, f"metric train-loss = inf is not finite{DIVERGED}"),
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


def test_a_client_of_one_sample_is_heard():
    one_class = {"class-ids": IDS[:1], "class-counts": torch.tensor([1]), "class-gradients": GRADIENTS[:1]}
    sent = reply_with(pack_update(Update(2, 1, MODEL, one_class, {"train-loss": 0.5})))
    assert unpack_update(sent, EXPECTED).num_examples == 1


def test_an_error_about_a_message_that_was_not_taken_is_of_no_client():
    """The SuperLink's, without the id of the message: the client that did not reply is named, and nobody else."""
    error = Message(Error(code=0, reason="node is gone"), reply_to=to_client(RecordDict()))
    error.metadata.__dict__["_reply_to_message_id"] = ""
    found = collect([error], {"a message": 3}, lambda reply, client: unpack_update(reply, EXPECTED), {})
    assert (found.good, found.set_aside) == ([], ["client 3: did not reply"])


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
    with pytest.raises(BadReply, match=r"^the model's weights moved by 5, aggregation\.max-update-norm = 4\.99$"):
        unpack_update(answer, expected)


def test_running_statistics_that_moved_too_far_are_refused():
    moved = MODEL | {"encoder.running_var": MODEL["encoder.running_var"] + torch.tensor([3.0, 4.0])}
    answer = reply(model=array_record(moved))
    with pytest.raises(BadReply, match=r"^the model's running statistics moved by 5, aggregation\.max-update-norm"):
        unpack_update(answer, Expected(MODEL, EXPECTED.records, 4, max_update_norm=4.99))
    unpack_update(answer, Expected(MODEL, EXPECTED.records, 4, max_update_norm=5.01))


@pytest.mark.parametrize(
    ("mask", "problem"), [(-INF, "is not finite"), (-1e10, "has an entry beyond 1e+09"), (1j, "is complex")]
)
@pytest.mark.parametrize("groups", [{}, {"a": {**MODEL, "encoder.mask": torch.zeros(1)}}])
def test_an_initial_model_that_no_reply_may_have_is_refused(mask, problem, groups):
    """Else every client would be blamed for the constant that it sends back."""
    masked = {**MODEL, "encoder.mask": torch.tensor([0.0, mask])}
    encoders = {**groups, "b": masked} if groups else {}
    model = GlobalModel.start(MODEL if groups else masked, "group" if groups else "all", encoders, ("a", "b"))
    with pytest.raises(ConfigError) as refused:
        refuse_unsendable(model)
    assert str(refused.value) == (
        f"the initial model: encoder.mask {problem}, and a reply with that would be set aside; a constant, such as an "
        "attention mask, travels with no message as register_buffer(..., persistent=False)"
    )
    refuse_unsendable(GlobalModel.start(masked, "head"))  # it stays with the clients
    refuse_unsendable(GlobalModel.start(MODEL, "all"))
