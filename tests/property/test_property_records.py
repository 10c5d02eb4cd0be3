"""Whatever a reply holds, reading it ends with an update or with BadReply."""

import math

import numpy as np
import torch
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from fedhpro_flwr.records import Update, array_record, pack_update
from fedhpro_flwr.server.reply_checks import MOST_SAMPLES, BadReply, Expected, unpack_update

MODEL = {"head.weight": torch.ones(3, 2), "head.bias": torch.zeros(3)}
SENT = {
    "class-gradients": torch.ones(2, 2),
    "class-ids": torch.tensor([2, 0]),
    "class-counts": torch.tensor([5, 1]),
}
EXPECTED = Expected(MODEL, {"class-gradients": ("P", 2), "class-ids": ("P",), "class-counts": ("P",)}, 3)
NAMES = ("model", "metrics", *SENT)
TENSOR_NAMES = st.sampled_from(["head.weight", "head.bias", *SENT, "other"])

any_array = arrays.arrays(
    dtype=st.sampled_from(["f4", "f8", "i8", "i4", "u1", "?", "f2", "c8", ">f4", "U2", "u8"]),
    shape=arrays.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3),
)
tensors = st.one_of(
    any_array.map(Array),
    st.binary(max_size=40).map(lambda data: Array("float32", (3,), "numpy.ndarray", data)),
    st.binary(max_size=40).map(lambda data: Array("float32", (3,), "numpy.ndarray", b"\x93NUMPY\x01\x00" + data)),
    st.builds(
        lambda at, byte: Array("float32", (3,), "numpy.ndarray", changed_byte(at, byte)),
        st.integers(0, 139),
        st.integers(0, 255),
    ),
)
numbers = st.one_of(
    st.integers(-(2**63), 2**63 - 1), st.floats(), st.lists(st.integers(0, 5)), st.integers(10**300, 10**400)
)
metric_names = st.sampled_from(["num-examples", "partition-id", "train-loss", "other"])
records = st.one_of(
    st.none(),
    st.dictionaries(TENSOR_NAMES, tensors, max_size=3).map(ArrayRecord),
    st.dictionaries(metric_names, numbers, max_size=4).map(MetricRecord),
    st.dictionaries(metric_names, st.text(max_size=3)).map(ConfigRecord),
)


def changed_byte(at: int, byte: int) -> bytes:
    data = bytearray(Array(np.zeros(3, np.float32)).data)
    data[at] = byte
    return bytes(data)


def read(content: RecordDict) -> Update | None:
    asked = Message(RecordDict(), dst_node_id=7, message_type="train")
    try:
        return unpack_update(Message(content, reply_to=asked), EXPECTED)
    except BadReply as problem:
        assert "\n" not in str(problem) or "cannot be read" in str(problem)
        return None


def holds_what_it_must(update: Update) -> bool:
    return (
        update.num_examples >= 1
        and all(math.isfinite(value) for value in update.metrics.values())
        and all(update.model[name].shape == MODEL[name].shape for name in MODEL)
        and all(bool(torch.isfinite(value).all()) for value in update.model.values())
        and bool(torch.isfinite(update.tensors["class-gradients"]).all())
        and update.tensors["class-gradients"].shape == (len(update.tensors["class-ids"]), 2)
        and len(set(update.tensors["class-ids"].tolist())) == len(update.tensors["class-counts"])
    )


@settings(max_examples=150)
@given(st.dictionaries(st.sampled_from([*NAMES, "other"]), records, min_size=1))
def test_one_or_more_records_replaced(changes):
    content = dict(pack_update(Update(1, 6, MODEL, SENT, {"train-loss": 0.5}))) | changes
    update = read(RecordDict({name: record for name, record in content.items() if record is not None}))
    assert update is None or holds_what_it_must(update)


@settings(max_examples=150)
@given(st.sampled_from(["head.weight", "head.bias", *SENT]), tensors)
def test_one_tensor_replaced(name, array):
    content = pack_update(Update(1, 6, MODEL, SENT))
    content["model" if name.startswith("head") else name][name] = array
    update = read(content)
    assert update is None or holds_what_it_must(update)


@settings(max_examples=100)
@given(st.dictionaries(metric_names, numbers))
def test_any_metrics(values):
    content = pack_update(Update(1, 6, MODEL, SENT))
    content["metrics"] = MetricRecord({"num-examples": 6, "partition-id": 1} | values)
    update = read(content)
    assert update is None or holds_what_it_must(update)


@given(
    arrays.arrays("f4", (3, 2), elements=st.floats(-(2.0**29), 2.0**29, width=32)),
    st.sets(st.integers(0, 2), min_size=1),
    st.integers(6, MOST_SAMPLES),
)
def test_good_replies_come_back(weight, classes, num_examples):
    ids = torch.tensor(sorted(classes))
    sent = {"class-gradients": torch.ones(len(ids), 2), "class-ids": ids, "class-counts": ids + 1}
    update = read(pack_update(Update(1, num_examples, MODEL | {"head.weight": torch.from_numpy(weight)}, sent)))
    assert update is not None
    assert update.num_examples == num_examples
    assert update.model["head.weight"].numpy().tobytes() == weight.tobytes()
    assert array_record(update.tensors).keys() == SENT.keys()
