"""One bad reply changes nothing but that this client is missing, bit for bit, and it is named with its fault."""

import math

import pytest
from flwr.app import Array, Error, Message, MetricRecord, RecordDict
from meddling_grid import (
    CLASSES,
    CLIENTS,
    INPUTS,
    WIDTH,
    Meddling,
    Played,
    client_data,
    meddle_with,
    model_with,
    moved_by,
    new_model,
    numbers,
    rewritten,
    tensor_of,
)
from torch import nn

from client_app.app import make_client_app
from fedhpro_flwr.models import Model
from fedhpro_flwr.records import array_record
from fedhpro_flwr.server.reply_checks import DIVERGED
from fedhpro_flwr.settings.presets import PRESETS

FAULTS = {
    "silence": (lambda message, reply: None, "did not reply"),
    "NaN": (
        lambda message, reply: rewritten(
            reply, message, model=model_with(reply, "head.weight", lambda value: value * math.nan)
        ),
        f"model tensor head.weight is not finite{DIVERGED}",
    ),
    "NaN gradient": (
        lambda message, reply: rewritten(
            reply,
            message,
            class_gradients=array_record({"class-gradients": tensor_of(reply, "class-gradients") * math.nan}),
        ),
        "class-gradients is not finite",
    ),
    "wrong shape": (
        lambda message, reply: rewritten(reply, message, model=model_with(reply, "head.bias", lambda value: value[:1])),
        f"model tensor head.bias has shape [1], [{CLASSES}] was expected",
    ),
    "unknown class": (
        lambda message, reply: rewritten(
            reply, message, class_ids=array_record({"class-ids": tensor_of(reply, "class-ids") + CLASSES})
        ),
        f"class id 7 is unknown, there are 0 to {CLASSES - 1}",
    ),
    "negative count": (
        lambda message, reply: rewritten(
            reply, message, class_counts=array_record({"class-counts": -tensor_of(reply, "class-counts")})
        ),
        "class count -6, it must be positive",
    ),
    "negative num-examples": (
        lambda message, reply: rewritten(reply, message, metrics=numbers(reply, num_examples=-5)),
        "num-examples = -5, it must be a positive whole number",
    ),
    "missing record": (
        lambda message, reply: rewritten(reply, message, class_counts=None),
        "'class-counts' is missing",
    ),
    "missing metrics": (lambda message, reply: rewritten(reply, message, metrics=None), "'metrics' is missing"),
    "empty": (lambda message, reply: Message(RecordDict(), reply_to=message), "'metrics' is missing"),
    "error": (
        lambda message, reply: Message(Error(code=1, reason="Traceback\n  x\nOSError: disk"), reply_to=message),
        "OSError: disk",
    ),
    "error without a reason": (
        lambda message, reply: Message(Error(code=1, reason=""), reply_to=message),
        "no reason was given",
    ),
    "twice": (lambda message, reply: [reply, reply], "replied twice"),
    "another's partition": (
        lambda message, reply: rewritten(reply, message, metrics=numbers(reply, partition_id=1)),
        "says that it is client 1",
    ),
    "unknown partition": (
        lambda message, reply: rewritten(reply, message, metrics=numbers(reply, partition_id=77)),
        "says that it is client 77",
    ),
    "no tensor": (
        lambda message, reply: rewritten(
            reply,
            message,
            class_ids=type(reply.content["class-ids"])({"class-ids": Array("int64", (2,), "numpy.ndarray", b"x")}),
        ),
        "a record cannot be read",
    ),
}


@pytest.fixture(scope="module")
def without_client_2():
    return {preset: Played(meddle_with(2, lambda message, reply: None), preset=preset) for preset in PRESETS}


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("fault", FAULTS)
def test_a_bad_reply_is_as_none(fault, preset, without_client_2):
    change, reason = FAULTS[fault]
    run = Played(meddle_with(2, change), preset=preset)
    assert len(run.reports[0].set_aside) == 1
    assert run.reports[0].set_aside[0].startswith(f"client 2: {reason}")
    assert [client["partition-id"] for client in run.reports[0].clients] == [0, 1, 3]
    assert run.reports[1].set_aside == []
    assert len(run.reports[1].clients) == CLIENTS
    assert run.bits() == without_client_2[preset].bits()


def test_a_run_without_that_client_is_another_run(without_client_2):
    assert Played().bits() != without_client_2["paper"].bits()


def test_a_client_that_says_it_is_another_does_not_put_that_one_aside():
    def meddle(kind, turn, partition, message, reply):
        if kind == "train" and turn == 1 and partition == 0:
            return [rewritten(reply, message, metrics=numbers(reply, partition_id=1))]
        return [reply]

    run = Played(Meddling(meddle=meddle))
    assert run.reports[0].set_aside == ["client 0: says that it is client 1"]
    assert [client["partition-id"] for client in run.reports[0].clients] == [1, 2, 3]


def test_a_reply_to_nothing_is_named_by_its_node():
    stray = []

    def meddle(kind, turn, partition, message, reply):
        if kind == "train" and turn == 1 and partition == 3:
            stray.append(reply)
        return [reply, *stray] if (kind, turn, partition) == ("train", 2, 0) else [reply]

    run = Played(Meddling(meddle=meddle))
    assert run.reports[1].set_aside == ["a reply to no message of this round: from node 103"]
    assert run.bits() == Played().bits()


def test_a_client_that_raises_is_set_aside_and_named():
    def client_side(config, task, context):
        if task.partition_id == 1:
            raise IndexError("no such shelf")
        if task.partition_id == 3:
            raise ValueError("no samples here")
        return new_model(1), client_data(task.partition_id)

    run = Played(Meddling(make_client_app(client_side)), rounds=1)
    assert run.reports[0].set_aside == ["client 1: IndexError: no such shelf", "client 3: no samples here"]


def test_with_privacy_withhold_the_server_is_not_told_why_a_client_raised(tmp_path):
    """The sentence of an error may quote a label or a number, which no noise covers."""

    def client_side(config, task, context):
        if task.partition_id == 1:
            raise IndexError("label 7 is out of range")
        if task.partition_id == 3:
            raise ValueError("margin must be >= 0 and finite, got -0.123")
        return new_model(1), client_data(task.partition_id)

    settings = {f"privacy.{what}-{how}": 1.0 for what in ("class", "model") for how in ("clip", "noise")}
    settings |= {"privacy.withhold": True, "clients.state-path": str(tmp_path)}
    given = {key.replace(".", "__").replace("-", "_"): value for key, value in settings.items()}
    run = Played(Meddling(make_client_app(client_side)), rounds=1, **given)
    assert run.reports[0].set_aside == [
        f"client {client}: failed; privacy.withhold keeps the reason in the log of its own node" for client in (1, 3)
    ]


def test_an_epsilon_that_nobody_asked_for_is_not_told():
    def boast(message, reply):
        numbers = reply.content["metrics"]
        return rewritten(reply, message, metrics=MetricRecord({**numbers, "epsilon": 0.5, "epsilon-if-secret": 0.5}))

    run = Played(meddle_with(2, boast), rounds=1)
    assert run.reports[0].set_aside == [] and "epsilon" in run.reports[0].clients[2]
    assert not {"epsilon", "epsilon-if-secret"} & run.reports[0].method.keys()


def test_a_client_of_another_architecture_is_set_aside_with_a_sentence():
    def client_side(config, task, context):
        other = Model(nn.Linear(INPUTS, WIDTH), nn.Linear(WIDTH, CLASSES))
        return other if task.partition_id == 2 else new_model(1), client_data(task.partition_id)

    run = Played(Meddling(make_client_app(client_side)), rounds=1)
    assert len(run.reports[0].set_aside) == 1
    assert run.reports[0].set_aside[0].startswith("client 2: the received model does not fit this client's: ")


def test_a_client_whose_model_moved_too_far_is_as_silent(without_client_2):
    run = Played(meddle_with(2, moved_by(1e6)), aggregation__max_update_norm=1e3)
    assert len(run.reports[0].set_aside) == 1
    assert run.reports[0].set_aside[0].startswith("client 2: the model's weights moved by ")
    assert run.bits() == without_client_2["paper"].bits()
