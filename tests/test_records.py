"""The wire: what comes back equals what went."""

import pytest
import torch
from flwr.app import ArrayRecord, ConfigRecord, Error, Message, MetricRecord, RecordDict
from good_reply import EXPECTED, MODEL, SENT, reply, reply_with, to_client

from fedhpro_flwr.config import ConfigError, RunConfig
from fedhpro_flwr.records import (
    Task,
    Update,
    array_record,
    error_reason,
    numbers_of,
    pack_broadcast,
    pack_update,
    record_bytes,
    tensors_of,
    unpack_broadcast,
)
from fedhpro_flwr.server.reply_checks import BadReply, unpack_update


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


def test_a_record_that_nobody_expects_is_refused_by_its_name():
    with pytest.raises(BadReply, match=r"^record extra is none that the method's `expects` names$"):
        unpack_update(reply(extra=array_record({"x": torch.zeros(2)})), EXPECTED)


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


def test_a_tensor_that_no_message_can_hold_is_named():
    with pytest.raises(
        ConfigError, match=r"^encoder\.w is bfloat16, which no message can hold; keep models in float32"
    ):
        array_record({"head.bias": torch.zeros(2), "encoder.w": torch.zeros(2, dtype=torch.bfloat16)})
