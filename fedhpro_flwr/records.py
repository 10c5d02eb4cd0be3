"""The wire: what a message carries, packed, unpacked and checked. Every tensor is an ArrayRecord of its own name.

    down  model, <what the method broadcasts, e.g. hyper-prototypes [C, K, D]>, config
    up    model, <what the method uploads, e.g. class-gradients [P, D], class-ids [P], class-counts [P]>, metrics

`config` holds every setting of the run and, under `task.`, what this one message asks for.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import torch
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from torch import Tensor

from fedhpro_flwr.config import RunConfig, Scalar

MODEL, CONFIG, METRICS = "model", "config", "metrics"
CLASS_GRADIENTS, CLASS_IDS, CLASS_COUNTS = "class-gradients", "class-ids", "class-counts"
HYPER_PROTOTYPES = "hyper-prototypes"

OUT_OF_RANGE = 1e9  # no trained number is near it, and squares of larger ones overflow float32
LARGEST = sys.float_info.max
ASKED = "task."  # prefix of the keys in `config` that are about this one message

Tensors = Mapping[str, Tensor]
Shape = tuple[int | Literal["P"], ...]  # "P" is the number of classes the client holds, the same wherever it stands


@dataclass(frozen=True)
class Task:
    """What one message asks of a client."""

    server_round: int
    partition_id: int
    evaluate: bool = False  # measure the received model on the client's own test data
    code: str = ""  # fingerprint of the server's sources; "" = do not compare
    data: str = ""  # fingerprint of the partition the server printed; "" = the client has data of its own


@dataclass(frozen=True, eq=False)
class Broadcast:
    """What a client receives."""

    model: Tensors
    tensors: Tensors  # of the method, by record name
    config: RunConfig
    task: Task


@dataclass(frozen=True, eq=False)
class Update:
    """What a client sends back."""

    partition_id: int
    num_examples: int
    model: Tensors
    tensors: Tensors  # of the method, by record name
    metrics: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Expected:
    """What a reply must look like: the tensors of the model that was sent, and the method's records."""

    model: Tensors
    records: Mapping[str, Shape]
    num_classes: int


class BadReply(ValueError):
    """A reply that must not touch the state; the message says what is wrong with it."""


def pack_broadcast(
    model: ArrayRecord, tensors: Mapping[str, ArrayRecord], settings: Mapping[str, Scalar], task: Task
) -> RecordDict:
    """The content of one message down. The array records are shared by all messages of a round and travel once."""
    asked = {f"{ASKED}{name.replace('_', '-')}": value for name, value in vars(task).items()}
    return RecordDict({MODEL: model, **tensors, CONFIG: ConfigRecord({**settings, **asked})})


def asked_partition(message: Message) -> int:
    """Which partition a message down is for."""
    return int(str(message.content.config_records[CONFIG][f"{ASKED}partition-id"]))


def unpack_broadcast(message: Message) -> Broadcast:
    """The inverse, at the client.

    Raises:
        ConfigError: settings this client's code does not know.
        KeyError: a record is missing.
    """
    config = scalars(message.content.config_records[CONFIG])
    asked = {key.removeprefix(ASKED).replace("-", "_"): value for key, value in config.items() if key.startswith(ASKED)}
    settings = {key: value for key, value in config.items() if not key.startswith(ASKED)}
    arrays = {name: record for name, record in message.content.array_records.items() if name != MODEL}
    return Broadcast(
        model=tensors_of(message.content.array_records[MODEL]),
        tensors={name: tensors_of(record)[name] for name, record in arrays.items()},
        config=RunConfig.parse(settings),
        task=Task(**asked),  # type: ignore[arg-type]
    )


def pack_update(update: Update) -> RecordDict:
    """The content of a reply."""
    numbers: dict[str, int | float | list[int] | list[float]] = dict(update.metrics)
    numbers |= {"num-examples": update.num_examples, "partition-id": update.partition_id}
    return RecordDict(
        {
            MODEL: array_record(update.model),
            **{name: array_record({name: tensor}) for name, tensor in update.tensors.items()},
            METRICS: MetricRecord(numbers),
        }
    )


def unpack_update(message: Message, expected: Expected) -> Update:
    """The inverse, at the server, and the check that keeps a broken or hostile reply from the state.

    Raises:
        BadReply: a record is missing, a shape, type or name differs, a number is not finite, a class id is unknown or
            comes twice, or a count is not positive.
    """
    content = message.content
    try:
        metrics = numbers_of(content.metric_records[METRICS])
        model = tensors_of(content.array_records[MODEL])
        tensors = {name: tensors_of(content.array_records[name])[name] for name in expected.records}
        num_examples, partition_id = metrics.pop("num-examples"), metrics.pop("partition-id")
    except KeyError as missing:
        raise BadReply(f"{missing} is missing") from None
    except Exception as broken:  # the bytes of a tensor are the client's, and NumPy fails on bad ones in many ways
        raise BadReply(f"a record cannot be read ({broken})") from None
    if not isinstance(num_examples, int) or num_examples < 1:
        raise BadReply(f"num-examples = {num_examples}, it must be a positive whole number")
    if not isinstance(partition_id, int):
        raise BadReply(f"partition-id = {partition_id}, it must be a whole number")
    for name, value in metrics.items():
        if not -LARGEST <= value <= LARGEST:  # NaN is not within, and no JSON either
            raise BadReply(f"metric {name} = {value} is not finite")
    _check_model(model, expected.model)
    _check_records(tensors, expected)
    return Update(partition_id, num_examples, model, tensors, {name: float(value) for name, value in metrics.items()})


def error_reason(reply: Message) -> str:
    """The last line of what an error reply says: of a traceback the exception."""
    lines = str(reply.error.reason).strip().splitlines()
    return lines[-1] if lines else "no reason was given"


def _check_model(model: Tensors, sent: Tensors) -> None:
    for name in sent.keys() ^ model.keys():
        raise BadReply(f"the model {'lacks' if name in sent else 'has an unknown'} tensor {name}")
    for name, tensor in model.items():
        _check_tensor(f"model tensor {name}", tensor, tuple(sent[name].shape), sent[name].dtype)


def _check_records(tensors: Tensors, expected: Expected) -> None:
    held = len(tensors[CLASS_IDS]) if CLASS_IDS in tensors and tensors[CLASS_IDS].ndim else 0
    for name, shape in expected.records.items():
        dtype = torch.int64 if name in (CLASS_IDS, CLASS_COUNTS) else torch.float32
        _check_tensor(name, tensors[name], tuple(held if size == "P" else size for size in shape), dtype)
    if CLASS_IDS in tensors:
        ids = tensors[CLASS_IDS].tolist()
        unknown = [number for number in ids if not 0 <= number < expected.num_classes]
        if unknown:
            raise BadReply(f"class id {unknown[0]} is unknown, there are 0 to {expected.num_classes - 1}")
        if len(set(ids)) != len(ids):
            raise BadReply("a class id comes twice")
    if CLASS_COUNTS in tensors and bool((tensors[CLASS_COUNTS] < 1).any()):
        raise BadReply(f"class count {int(tensors[CLASS_COUNTS].min())}, it must be positive")


def _check_tensor(name: str, tensor: Tensor, shape: tuple[int, ...], dtype: torch.dtype) -> None:
    if tuple(tensor.shape) != shape:
        raise BadReply(f"{name} has shape {list(tensor.shape)}, {list(shape)} was expected")
    if tensor.dtype != dtype:
        raise BadReply(f"{name} has type {tensor.dtype}, {dtype} was expected")
    if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
        raise BadReply(f"{name} is not finite")
    if tensor.is_floating_point() and bool((tensor.abs() > OUT_OF_RANGE).any()):
        raise BadReply(f"{name} has an entry beyond {OUT_OF_RANGE:.0e}")


def array_record(tensors: Tensors) -> ArrayRecord:
    """Named tensors as an ArrayRecord; they are copied."""
    return ArrayRecord({name: Array(tensor.detach().cpu().contiguous().numpy()) for name, tensor in tensors.items()})


def tensors_of(record: ArrayRecord) -> dict[str, Tensor]:
    """The inverse of `array_record`."""
    return {name: torch.from_numpy(array.numpy()) for name, array in record.items()}


def numbers_of(record: MetricRecord) -> dict[str, int | float]:
    """The single numbers of a client's metrics."""
    return {name: value for name, value in record.items() if isinstance(value, int | float)}


def scalars(record: ConfigRecord) -> dict[str, Scalar]:
    """The single values of a config record."""
    return {name: value for name, value in record.items() if isinstance(value, str | int | float | bool)}


def record_bytes(content: RecordDict) -> dict[str, int]:
    """Bytes of tensor data per record, without Flower's framing."""
    return {name: sum(len(array.data) for array in record.values()) for name, record in content.array_records.items()}
