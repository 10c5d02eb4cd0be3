"""The wire: what a message carries, packed and unpacked. Each tensor but the model's has an ArrayRecord of its own.

    down  model, <what the method broadcasts, e.g. hyper-prototypes [C, K, D]>, config
    up    model, <what the method uploads, e.g. class-gradients [P, D], class-ids [P], class-counts [P]>, metrics,
          and, if the client tested on its own data, confusion [E, 4]

`model` holds the part of it that travels (exchange.py). `config` holds every setting of the run and, under `task.`,
what this one message asks for. What a reply must look like is checked in server/reply_checks.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from torch import Tensor

from fedhpro_flwr.config import ConfigError, RunConfig, Scalar
from fedhpro_flwr.metrics import Evaluation
from fedhpro_flwr.seeding import Draws

MODEL, CONFIG, METRICS = "model", "config", "metrics"
CLASS_GRADIENTS, CLASS_IDS, CLASS_COUNTS = "class-gradients", "class-ids", "class-counts"
CLASS_PROTOTYPES = "class-prototypes"  # mean feature of each class of a client
HEAD_WEIGHT_GRADIENTS, HEAD_BIAS_GRADIENTS = "head-weight-gradients", "head-bias-gradients"
CLASS_TENSORS = (CLASS_GRADIENTS, CLASS_PROTOTYPES, HEAD_WEIGHT_GRADIENTS, HEAD_BIAS_GRADIENTS)  # [P, ...] by class
HYPER_PROTOTYPES = "hyper-prototypes"
GLOBAL_PROTOTYPES, KNOWN_CLASSES = "global-prototypes", "known-classes"
CONFUSION, CONFUSION_BY_PROTOTYPE = "confusion", "confusion-by-prototype"
TRAIN_LOSS = "train-loss"  # among a client's metrics
BEGAN_ANEW = "began-anew"  # likewise; 1 if the client did not find what it kept after its last visit that counted

ASKED = "task."  # prefix of the keys in `config` that are about this one message

Tensors = Mapping[str, Tensor]
Shape = tuple[int | Literal["P"], ...]  # "P" is the number of classes the client holds, the same in all records


@dataclass(frozen=True)
class Task:
    """What one message asks of a client."""

    server_round: int
    partition_id: int
    evaluate: bool = False  # measure the received model on the client's own test data
    code: str = ""  # fingerprint of the server's sources; "" = do not compare
    data: str = ""  # fingerprint of the partition the server printed; "" = the client has data of its own
    run: str = ""  # the run's name, under which a client keeps its files of it
    visit: str = ""  # the name of this attempt at the round, under which the client keeps its state (visits.py)
    after: str = ""  # the client's last visit that counted, which it goes on from; "" = none has yet
    needed: str = ""  # the visits that it may still be asked to go on from, separated by spaces
    settled: int = 0  # no visit of this round or an earlier one is still to be made, or asked for unless in `needed`


@dataclass(frozen=True, eq=False)
class Broadcast:
    """What a client receives."""

    model: Tensors
    tensors: Tensors  # the method's, by record name
    config: RunConfig
    task: Task

    @property
    def draws(self) -> Draws:
        """The client's random draws of this round."""
        return Draws(self.config.seed, self.task.server_round, self.task.partition_id)


@dataclass(frozen=True, eq=False)
class OwnTest:
    """What a client measured on its own test data."""

    partition_id: int
    by_head: Evaluation
    by_prototype: Evaluation | None = None  # with the class of the nearest prototypes instead of the head's


@dataclass(frozen=True, eq=False)
class Update:
    """What a client sends back."""

    partition_id: int
    num_examples: int
    model: Tensors
    tensors: Tensors  # the method's, by record name
    metrics: Mapping[str, float] = field(default_factory=dict)
    test: OwnTest | None = None  # of the model as it was received

    @property
    def began_anew(self) -> bool:
        """Whether the client did not find what it had kept."""
        return self.metrics.get(BEGAN_ANEW, 0.0) > 0


def pack_broadcast(
    model: ArrayRecord, tensors: Mapping[str, ArrayRecord], settings: Mapping[str, Scalar], task: Task
) -> RecordDict:
    """The content of one message down. The array records are shared by all messages of a round and travel once."""
    return RecordDict({MODEL: model, **tensors, CONFIG: pack_task(settings, task)})


def pack_task(settings: Mapping[str, Scalar], task: Task) -> ConfigRecord:
    """The settings of the run, and what this one message asks for."""
    asked = {f"{ASKED}{name.replace('_', '-')}": value for name, value in vars(task).items()}
    return ConfigRecord({**settings, **asked})


def asked_partition(message: Message) -> int:
    """Which partition a message down is for."""
    return _asked_number(message, "partition-id")


def asked_clients(messages: Iterable[Message]) -> dict[str, int]:
    """Message id -> the partition that this message down is for; messages get their ids when they are sent."""
    return {message.metadata.message_id: asked_partition(message) for message in messages}


def asked_round(message: Message) -> int:
    """Which round a message down is for."""
    return _asked_number(message, "server-round")


def _asked_number(message: Message, key: str) -> int:
    return int(str(message.content.config_records[CONFIG][f"{ASKED}{key}"]))


def unpack_task(message: Message) -> tuple[RunConfig, Task]:
    """The inverse of `pack_task`, at the client.

    Raises:
        ConfigError: settings this client's code does not know.
        KeyError: the record is missing.
    """
    config = scalars(message.content.config_records[CONFIG])
    asked = {key.removeprefix(ASKED).replace("-", "_"): value for key, value in config.items() if key.startswith(ASKED)}
    settings = {key: value for key, value in config.items() if not key.startswith(ASKED)}
    return RunConfig.parse(settings), Task(**asked)  # type: ignore[arg-type]


def unpack_broadcast(message: Message) -> Broadcast:
    """The inverse of `pack_broadcast`, at the client.

    Raises:
        ConfigError: settings this client's code does not know.
        KeyError: a record is missing.
    """
    model = tensors_of(message.content.array_records[MODEL])
    config, task = unpack_task(message)
    arrays = {name: record for name, record in message.content.array_records.items() if name != MODEL}
    return Broadcast(
        model=model,
        tensors={name: tensors_of(record)[name] for name, record in arrays.items()},
        config=config,
        task=task,
    )


def pack_update(update: Update) -> RecordDict:
    """The content of a reply."""
    numbers: dict[str, int | float | list[int] | list[float]] = dict(update.metrics)
    numbers |= {"num-examples": update.num_examples, "partition-id": update.partition_id}
    tested = dict(pack_test(update.test)) if update.test else {}
    if update.test:
        numbers["test-loss"] = update.test.by_head.loss
    return RecordDict(
        {
            MODEL: array_record(update.model),
            **{name: array_record({name: tensor}) for name, tensor in update.tensors.items()},
            **tested,
            METRICS: MetricRecord(numbers),
        }
    )


def pack_test(test: OwnTest) -> RecordDict:
    """The content of a reply to an evaluate message."""
    by = {CONFUSION: test.by_head, CONFUSION_BY_PROTOTYPE: test.by_prototype}
    records = {name: array_record({name: result.cells}) for name, result in by.items() if result is not None}
    metrics = MetricRecord({"partition-id": test.partition_id, "test-loss": test.by_head.loss})
    return RecordDict({**records, METRICS: metrics})


def class_rows(updates: Sequence[Update], name: str) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
    """What clients sent for their classes: for each client the class ids [P], the rows [P, ...] and the counts [P].

    Args:
        updates: the replies.
        name: the record with the rows.
    """
    ids, rows, counts = ([update.tensors[record] for update in updates] for record in (CLASS_IDS, name, CLASS_COUNTS))
    return ids, rows, counts


CLIENT_RAISED, CLIENT_FAILED = 2, 100  # codes of error replies: Flower's for an exception, ours for a sentence
# Error codes of a client that was reached and would fail again: Flower's 1, 6 and 7 say that its app does not load.
# Other codes come from the network, or from a process that died: the client may come back.
OF_THE_CLIENT = (1, CLIENT_RAISED, 6, 7, CLIENT_FAILED)


def error_reason(reply: Message) -> str:
    """The last line of what an error reply says; in a traceback that is the exception."""
    lines = str(reply.error.reason).strip().splitlines()
    return lines[-1] if lines else "no reason was given"


def array_record(tensors: Tensors) -> ArrayRecord:
    """Named tensors as an ArrayRecord; they are copied.

    Raises:
        ConfigError: a tensor is of a type that numpy, and so the message, cannot hold.
    """
    return ArrayRecord({name: _array(name, tensor) for name, tensor in tensors.items()})


def _array(name: str, tensor: Tensor) -> Array:
    values = tensor.detach().cpu().contiguous()
    try:
        return Array(values.numpy())
    except TypeError:
        raise ConfigError(
            f"{name} is {str(tensor.dtype).removeprefix('torch.')}, which no message can hold; keep models in float32, "
            "and set local.precision = 'bfloat16' to compute in that"
        ) from None


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
