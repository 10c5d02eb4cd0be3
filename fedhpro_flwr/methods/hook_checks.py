"""What a method's own hooks give is looked at too, so that a mistake there is told as one, and blamed on no client."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from numbers import Real

import torch
from torch import Tensor

from fedhpro_flwr.aggregation import VARIANCE
from fedhpro_flwr.config import ConfigError
from fedhpro_flwr.first_difference import first_difference
from fedhpro_flwr.methods.arrival import Departure
from fedhpro_flwr.methods.base import Method, ServerStep
from fedhpro_flwr.records import (
    CLASS_COUNTS,
    CLASS_IDS,
    CLASS_TENSORS,
    CONFIG,
    CONFUSION,
    CONFUSION_BY_PROTOTYPE,
    METRICS,
    MODEL,
    Tensors,
)

TAKEN = frozenset({MODEL, CONFIG, METRICS, CONFUSION, CONFUSION_BY_PROTOTYPE})  # records of every message


def of_kind(method: Method, hook: str, value: object, kind: type, wanted: str) -> None:
    """Look at what a hook gave.

    Raises:
        ConfigError: it is no `kind`; the message says what is `wanted`.
    """
    if not isinstance(value, kind):
        raise ConfigError(
            f"method.name = {method.name!r}: its {hook} gave {_article(type(value).__name__)}, it must give {wanted}"
        )


def tensors_by_name(method: Method, hook: str, value: object) -> None:
    """Look at whether a hook gave what can be sent.

    Raises:
        ConfigError: it is no dict of tensors.
    """
    of_kind(method, hook, value, Mapping, "a dict of tensors")
    for name, tensor in dict(value).items():  # type: ignore[call-overload]
        of_kind(method, f"{hook}[{name!r}]", tensor, Tensor, "a tensor")


def refuse_client_hooks(
    method: Method, upload: object, loss: object, offsets: object, correction: object, num_classes: int
) -> None:
    """Look at what a method's hooks gave at a client before it trains.

    Args:
        method: whose they are.
        upload, loss, offsets, correction: what `upload`, `local_loss`, `logit_offsets` and `correction` gave.
        num_classes: C.

    Raises:
        ConfigError: one of them gave something else than the hook is to.
    """
    tensors_by_name(method, "upload", upload)
    for hook, value in (("local_loss", loss), ("correction", correction)):
        if value is not None:
            of_kind(method, hook, value, Callable, "a function or None")  # type: ignore[arg-type]
    if offsets is not None:
        of_kind(method, "logit_offsets", offsets, Tensor, f"a tensor of {num_classes} numbers or None")
        if tuple(offsets.shape) != (num_classes,):  # type: ignore[attr-defined]
            raise ConfigError(
                f"method.name = {method.name!r}: its logit_offsets has shape {list(offsets.shape)}, "  # type: ignore[attr-defined]
                f"it must have one number for each of {num_classes} classes"
            )


def refuse_loss(value: object) -> None:
    """Look at what the function that `local_loss` gave says of a batch.

    Raises:
        ConfigError: it is no tensor of one number.
    """
    if not isinstance(value, Tensor) or value.ndim:
        shape = (
            f"a tensor of shape {list(value.shape)}" if isinstance(value, Tensor) else _article(type(value).__name__)
        )
        raise ConfigError(f"what local_loss returned gave {shape} for a batch, it must give a tensor of one number")


def refuse_departure(method: Method, departure: object) -> None:
    """Look at what `depart` gave.

    Raises:
        ConfigError: it is no Departure of tensors.
    """
    of_kind(method, "depart", departure, Departure, "a Departure")
    for part in ("upload", "memory"):
        tensors_by_name(method, f"depart: {part}", getattr(departure, part))


def refuse_records(method: Method, state: object) -> None:
    """Look at the names of a method's records before round 1.

    Raises:
        ConfigError: one has the name of a record that every message has, or rows for classes that no record names;
            `privacy.withhold` would let none of its replies leave a client; or its state could not be restored.
    """
    if method.config.checkpoint.every:
        method.saved(state)  # refuses a state that could not be restored
    expected = method.expects(state)
    of_kind(method, "expects", expected, Mapping, "a dict of shapes")
    for name, shape in expected.items():
        of_kind(method, f"expects[{name!r}]", shape, tuple, "a tuple of sizes")
    tensors_by_name(method, "broadcast", method.broadcast(state))
    tensors_by_name(method, "tensors", method.tensors(state))
    if taken := sorted(TAKEN & {*expected, *method.broadcast(state)}):
        raise ConfigError(
            f"method.name = {method.name!r}: every message has a record {taken[0]} already; rename its own"
        )
    if CLASS_IDS not in expected and (rows := sorted(name for name, shape in expected.items() if "P" in shape)):
        raise ConfigError(
            f"method.name = {method.name!r}: {rows[0]} has a row for each of a client's classes, 'P' in `expects`, "
            f"which needs a record {CLASS_IDS} that says which they are"
        )
    bare = sorted(expected.keys() - {*CLASS_TENSORS, CLASS_IDS, CLASS_COUNTS})
    if method.config.privacy.withhold and bare:
        raise ConfigError(
            f"privacy.withhold = true: no noise covers {bare[0]}, which method.name = {method.name!r} sends; set it to "
            "false"
        )


def restored(method: Method, start: object, saved: Tensors) -> object:
    """The method's state of a checkpoint.

    Raises:
        ConfigError: the checkpoint lacks a tensor that the method's `restored` asks for.
    """
    try:
        return method.restored(start, saved)
    except KeyError as missing:
        raise ConfigError(
            f"the checkpoint has no {missing.args[0]}, from which method.name = {method.name!r} goes on: it is of "
            "other code; resume it with that which the run was begun with"
        ) from missing


def checked(step: ServerStep, mean: Tensors, method: Method) -> ServerStep:
    """What `server_step` gave, its metrics as numbers of Python's.

    Args:
        step: of a round.
        mean: the averaged model that it was given.
        method: whose step it is.

    Raises:
        ConfigError: a tensor of the model is missing, unknown, of another type or shape, not finite, or a variance
            below zero; or a tensor of the new state or a metric is not finite.
    """
    of_kind(method, "server_step", step, ServerStep, "a ServerStep")
    broke = f"method.name = {method.name!r}: its server_step"
    if difference := first_difference(mean, step.model):
        raise ConfigError(f"{broke} changed the model's tensors: {difference}")
    for name, tensor in step.model.items():  # one that it was given, too: it may have been changed in place
        if not torch.isfinite(tensor).all():
            raise ConfigError(f"{broke} made {name} not finite{_way_out(method)}")
        if name.endswith(VARIANCE) and (tensor < 0).any():
            raise ConfigError(f"{broke} made {name} negative; a variance is best left at the clients' mean")
    for name, value in step.metrics.items():
        if not isinstance(value, Real) or not math.isfinite(value):
            end = _way_out(method) or "; it must be a finite number"
            raise ConfigError(f"{broke} gave the metric {name} = {value!r}{end}")
    for name, tensor in {**method.tensors(step.state), **method.broadcast(step.state)}.items():
        if not torch.isfinite(tensor).all():
            raise ConfigError(f"{broke} made {name} not finite{_way_out(method)}")
    return replace(step, metrics={name: float(value) for name, value in step.metrics.items()})


def _article(kind: str) -> str:
    return "nothing" if kind == "NoneType" else f"{'an' if kind[0] in 'aeiou' else 'a'} {kind}"


def _way_out(method: Method) -> str:
    """Of a method whose steps on the server have rates: which they are."""
    settings = method.config.flat()
    rates = " or ".join(f"{key} = {settings[key]}" for key in method.server_rates)
    return f": what the server trains has diverged; lower {rates}" if rates else ""
