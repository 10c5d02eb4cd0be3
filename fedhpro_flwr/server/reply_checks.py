"""Unpacks and checks replies, to keep a broken or hostile one from the server's state."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from flwr.app import Message, RecordDict
from torch import Tensor

from fedhpro_flwr.aggregation import VARIANCE
from fedhpro_flwr.config import ConfigError
from fedhpro_flwr.exchange import GlobalModel
from fedhpro_flwr.metrics import Evaluation
from fedhpro_flwr.records import (
    CLASS_COUNTS,
    CLASS_IDS,
    CONFUSION,
    CONFUSION_BY_PROTOTYPE,
    METRICS,
    MODEL,
    TRAIN_LOSS,
    OwnTest,
    Shape,
    Tensors,
    Update,
    numbers_of,
    tensors_of,
)
from fedhpro_flwr.robust import update_norms

OUT_OF_RANGE = 1e9  # no trained number is near it, and sums of squares up to it are far from overflowing float32
OF_EVERY_REPLY = (MODEL, CONFUSION, CONFUSION_BY_PROTOTYPE)  # records that any reply may have, beside the method's
LARGEST = 1e100  # bound of a metric: no float32 is near it, and sums over clients, weighted by samples, stay finite
DIVERGED = ": training has diverged, lower local.lr or the weights of the losses"
MOST_METRICS, LONGEST_NAME = 1000, 100
MOST_SAMPLES = 2**40  # of one client; sums over clients stay far from the end of int64
MOST_STEPS = 2**31  # that a counter in the model can take in one visit


class BadReply(ValueError):
    """A reply that must not touch the state; the message says what is wrong with it."""


@dataclass(frozen=True, eq=False)
class Expected:
    """What a reply must look like: the tensors of the model that was sent, and the method's records."""

    model: Tensors
    records: Mapping[str, Shape]
    num_classes: int
    num_domains: int = 1
    max_update_norm: float = 0.0  # |w_k - w| above it is refused (robust.update_norms); 0: no bound


def refuse_unsendable(model: GlobalModel) -> None:
    """Check the initial model like a reply: every client would send back a number that no reply may have.

    Raises:
        ConfigError: a tensor is not finite, beyond the bound, or complex.
    """
    for group in model.groups:
        for name, tensor in model.tensors(group).items():
            try:
                _check_tensor(name, tensor, tuple(tensor.shape), tensor.dtype)
            except BadReply as problem:
                raise ConfigError(
                    f"the initial model: {problem}, and a reply with that would be set aside; a constant, such as an "
                    "attention mask, travels with no message as register_buffer(..., persistent=False)"
                ) from None


def expected_updates(
    model: GlobalModel,
    records: Mapping[str, Shape],
    num_classes: int,
    num_domains: int,
    max_update_norm: float,
    samples: Sequence[int],
) -> Callable[[Message, int], Update]:
    """`unpack_update` for the clients of a round: each must return the tensors that its group received.

    Args:
        model: what was sent.
        records: the method's.
        num_classes, num_domains, max_update_norm: as in `Expected`.
        samples: how many each client trains on; empty if only the clients know.
    """
    limits = (num_classes, num_domains, max_update_norm)
    expected = {group: Expected(model.tensors(group), records, *limits) for group in model.groups}

    def unpack(reply: Message, client: int) -> Update:
        update = unpack_update(reply, expected[model.group(client)])
        if samples and update.num_examples != samples[client]:
            raise BadReply(f"num-examples = {update.num_examples}, its partition has {samples[client]}")
        return update

    return unpack


def unpack_update(message: Message, expected: Expected) -> Update:
    """The inverse of `pack_update`, at the server.

    Raises:
        BadReply: a record is missing or none that is expected, a shape, type or name differs, a number is not finite or
            beyond its bound, a class id is unknown or comes twice, a count is not positive, the classes have more
            samples than the client, or the model moved further than is allowed.
    """
    content = message.content
    for name in sorted(content.array_records.keys() - {*OF_EVERY_REPLY, *expected.records}):
        raise BadReply(f"record {name} is none that the method's `expects` names")
    try:
        metrics = numbers_of(content.metric_records[METRICS])
        model = tensors_of(content.array_records[MODEL])
        tensors = {name: tensors_of(content.array_records[name])[name] for name in expected.records}
        num_examples, partition_id = metrics.pop("num-examples"), metrics.pop("partition-id")
    except KeyError as missing:
        raise BadReply(f"{missing} is missing") from None
    except Exception as broken:  # a tensor's bytes come from the client, and NumPy fails on bad ones in many ways
        raise BadReply(f"a record cannot be read ({broken})") from None
    if not isinstance(num_examples, int) or num_examples < 1:
        raise BadReply(f"num-examples = {num_examples}, it must be a positive whole number")
    if num_examples > MOST_SAMPLES:
        raise BadReply(f"num-examples is above {MOST_SAMPLES}")
    if not isinstance(partition_id, int):
        raise BadReply(f"partition-id = {partition_id}, it must be a whole number")
    _check_metrics(metrics)
    _check_model(model, expected)
    _check_records(tensors, expected, num_examples)
    tested = CONFUSION in content.array_records
    test = unpack_test(content, expected.num_classes, expected.num_domains) if tested else None
    numbers = {name: float(value) for name, value in metrics.items()}
    return Update(partition_id, num_examples, model, tensors, numbers, test)


def unpack_test(content: RecordDict, num_classes: int, num_domains: int = 1) -> OwnTest:
    """The inverse of `pack_test`, at the server.

    Raises:
        BadReply: a record is missing, or is not a confusion tensor of G domains and C classes.
    """
    numbers = numbers_of(content.metric_records[METRICS]) if METRICS in content.metric_records else {}
    partition_id, loss = numbers.get("partition-id"), numbers.get("test-loss", 0.0)
    if not isinstance(partition_id, int):
        raise BadReply(f"partition-id = {partition_id}, it must be a whole number")
    _check_metrics({"test-loss": loss})
    results: dict[str, Evaluation] = {}
    for name in (CONFUSION, CONFUSION_BY_PROTOTYPE):
        if name in content.array_records:
            try:
                cells = tensors_of(content.array_records[name])[name]
            except Exception as broken:
                raise BadReply(f"record {name} cannot be read ({broken})") from None
            _check_cells(name, cells, num_classes, num_domains)
            results[name] = Evaluation(cells, num_classes, float(loss))
    if CONFUSION not in results:
        raise BadReply(f"{CONFUSION!r} is missing")
    return OwnTest(partition_id, results[CONFUSION], results.get(CONFUSION_BY_PROTOTYPE))


def _check_cells(name: str, cells: Tensor, num_classes: int, num_domains: int) -> None:
    _check_tensor(name, cells, (len(cells) if cells.ndim else 0, 4), torch.int64)
    for column, (what, size) in enumerate((("domain", num_domains), ("class", num_classes), ("class", num_classes))):
        wrong = cells[(cells[:, column] < 0) | (cells[:, column] >= size), column]
        if len(wrong):
            hint = "; the strategy's `breakdown` names the domains" if what == "domain" else ""
            raise BadReply(f"{name}: {what} id {int(wrong[0])} is unknown, there are 0 to {size - 1}{hint}")
    if len(cells) > (most := num_domains * num_classes**2):  # they would be sorted below, in ten times their memory
        raise BadReply(f"{name} has {len(cells)} cells, there are {most}")
    if len(torch.unique(cells[:, :3], dim=0)) != len(cells):
        raise BadReply(f"{name}: a cell comes twice")
    wrong = cells[(cells[:, 3] < 1) | (cells[:, 3] > MOST_SAMPLES), 3]
    if len(wrong):
        raise BadReply(f"{name}: a count is {int(wrong[0])}, it must be positive and at most {MOST_SAMPLES}")
    if len(cells) and float(cells[:, 3].double().sum()) > MOST_SAMPLES:
        raise BadReply(f"{name}: more than {MOST_SAMPLES} samples")


def _check_metrics(metrics: Mapping[str, int | float]) -> None:
    if len(metrics) > MOST_METRICS:
        raise BadReply(f"{len(metrics)} metrics, there may be {MOST_METRICS}")
    for name, value in metrics.items():
        if len(name) > LONGEST_NAME or not name.isprintable():  # it is shown in files, trackers and screens
            raise BadReply(f"a metric's name is not printable or longer than {LONGEST_NAME} characters")
        if isinstance(value, float) and not math.isfinite(value):  # JSON has no NaN or infinity
            raise BadReply(f"metric {name} = {value} is not finite{DIVERGED if name == TRAIN_LOSS else ''}")
        if not -LARGEST <= value <= LARGEST:
            raise BadReply(f"metric {name} is beyond {LARGEST:.0e}")


def _check_model(model: Tensors, expected: Expected) -> None:
    sent = expected.model
    for name in sent.keys() ^ model.keys():
        raise BadReply(f"the model {'lacks' if name in sent else 'has an unknown'} tensor {name}")
    for name, tensor in model.items():
        _check_tensor(f"model tensor {name}", tensor, tuple(sent[name].shape), sent[name].dtype, DIVERGED)
        if tensor.is_floating_point():
            if name.endswith(VARIANCE) and bool((tensor < 0).any()):  # its root is NaN at every client
                raise BadReply(f"model tensor {name} is a variance and has a negative entry")
        elif bool(((tensor.double() - sent[name].double()).abs() > MOST_STEPS).any()):
            raise BadReply(f"model tensor {name} moved by more than {MOST_STEPS}")
    if (most := expected.max_update_norm) > 0:
        for part, norm in zip(("weights", "running statistics"), update_norms(model, sent), strict=True):
            if norm > most:
                raise BadReply(f"the model's {part} moved by {norm:.4g}, aggregation.max-update-norm = {most:g}")


def _check_records(tensors: Tensors, expected: Expected, num_examples: int) -> None:
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
    if CLASS_COUNTS in tensors:
        counts = tensors[CLASS_COUNTS].flatten().tolist()
        if min(counts, default=1) < 1:
            raise BadReply(f"class count {min(counts)}, it must be positive")
        if sum(counts) > num_examples:  # a sum of Python integers, which do not overflow
            raise BadReply(f"class counts add up to {sum(counts)}, num-examples is {num_examples}")


def _check_tensor(name: str, tensor: Tensor, shape: tuple[int, ...], dtype: torch.dtype, why: str = "") -> None:
    if tuple(tensor.shape) != shape:
        raise BadReply(f"{name} has shape {list(tensor.shape)}, {list(shape)} was expected")
    if tensor.dtype != dtype:
        raise BadReply(f"{name} has type {tensor.dtype}, {dtype} was expected")
    if tensor.is_complex():
        raise BadReply(f"{name} is complex")
    if tensor.is_floating_point() and tensor.numel():
        # One pass without a copy, fifty times as fast as isfinite and abs; a NaN is both the smallest and the largest.
        low, high = (float(end) for end in torch.aminmax(tensor))
        if not (math.isfinite(low) and math.isfinite(high)):
            raise BadReply(f"{name} is not finite{why}")
        if low < -OUT_OF_RANGE or high > OUT_OF_RANGE:
            raise BadReply(f"{name} has an entry beyond {OUT_OF_RANGE:.0e}{why}")
