"""Checks of what a method's own hooks give, made at once: else torch fails later, or a client gets the blame."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from numbers import Real

import torch
from torch import Tensor

from fedhpro_flwr.aggregation import VARIANCE
from fedhpro_flwr.config import ConfigError
from fedhpro_flwr.first_difference import first_difference
from fedhpro_flwr.head import Head
from fedhpro_flwr.methods.arrival import Departure
from fedhpro_flwr.methods.base import Method, ServerStep
from fedhpro_flwr.prototypes import Prototypes
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


# --- at the client ----------------------------------------------------------------------------------------------------


def refuse_client_hooks(
    method: Method, upload: object, loss: object, offsets: object, correction: object, num_classes: int
) -> None:
    """Look at what the hooks gave at a client before it trains.

    Args:
        method: whose they are.
        upload, loss, offsets, correction: what `upload`, `local_loss`, `logit_offsets` and `correction` gave.
        num_classes: C.

    Raises:
        ConfigError: one of them gave something else than it must.
    """
    _refuse_no_tensors(method, "upload", upload)
    for hook, value in (("local_loss", loss), ("correction", correction)):
        if value is not None and not callable(value):
            raise _wrong(method, hook, value, "a function or None")
    if offsets is not None and (not isinstance(offsets, Tensor) or offsets.shape != (num_classes,)):
        raise _wrong(method, "logit_offsets", offsets, f"a tensor of shape [{num_classes}] or None")


def refuse_loss(value: object) -> None:
    """Check what the function that `local_loss` gave returns for a batch.

    Raises:
        ConfigError: it is no scalar tensor.
    """
    if not isinstance(value, Tensor) or value.ndim:
        raise ConfigError(
            f"what local_loss returned gave {_kind(value)} for a batch, it must give a tensor of shape []"
        )


def refuse_departure(method: Method, departure: object, upload: Mapping[str, Tensor]) -> None:
    """Look at what `depart` gave.

    Args:
        method: whose it is.
        departure: what it gave.
        upload: what `upload` gave before.

    Raises:
        ConfigError: it is no Departure of tensors, or sends a record that `upload` has given already.
    """
    if not isinstance(departure, Departure):
        raise _wrong(method, "depart", departure, "a Departure")
    _refuse_no_tensors(method, "depart: upload", departure.upload)
    _refuse_no_tensors(method, "depart: memory", departure.memory)
    if twice := sorted(upload.keys() & departure.upload.keys()):
        raise ConfigError(f"method.name = {method.name!r}: its upload and its depart both send {twice[0]}; rename one")


# --- on the server ----------------------------------------------------------------------------------------------------


def refuse_records(method: Method, state: object) -> None:
    """Check a method's records, and what its server hooks give, before round 1.

    Raises:
        ConfigError: a record has the name of one that every message has, or rows for classes that no record names; the
            settings `privacy.*` do not cover one; the state could not be restored; or a hook gave something of a wrong
            type.
    """
    if method.config.checkpoint.every:
        method.saved(state)  # refuses a state that could not be restored
    expected = method.expects(state)
    if not isinstance(expected, Mapping):
        raise _wrong(method, "expects", expected, "a dict of shapes")
    for name, shape in expected.items():
        if not isinstance(shape, tuple):
            raise _wrong(method, f"expects[{name!r}]", shape, "a tuple of sizes")
    sent = method.broadcast(state)
    _refuse_no_tensors(method, "broadcast", sent)
    _refuse_no_tensors(method, "tensors", method.tensors(state))
    for hook, value, kind in (
        ("prototypes", method.prototypes(sent), Prototypes),
        ("tested_head", method.tested_head(sent), Head),
    ):
        if value is not None and not isinstance(value, kind):
            raise _wrong(method, hook, value, f"a {kind.__name__} or None")
    if taken := sorted(TAKEN & {*expected, *sent}):
        raise ConfigError(
            f"method.name = {method.name!r}: every message has a record {taken[0]} already; rename its own"
        )
    if CLASS_IDS not in expected and (rows := sorted(name for name, shape in expected.items() if "P" in shape)):
        raise ConfigError(
            f"method.name = {method.name!r}: {rows[0]} has a row for each of a client's classes, 'P' in `expects`, "
            f"which needs a record {CLASS_IDS} that says which they are"
        )
    privacy = method.config.privacy
    if CLASS_IDS in expected and CLASS_COUNTS not in expected and (privacy.min_samples > 1 or privacy.withhold):
        raise ConfigError(
            f"privacy.min-samples, privacy.withhold: they need a record {CLASS_COUNTS} beside {CLASS_IDS}, which "
            f"method.name = {method.name!r} does not send; add it, or leave the settings at their defaults"
        )
    bare = sorted(expected.keys() - {*CLASS_TENSORS, CLASS_IDS, CLASS_COUNTS})
    of_classes = [name for name in bare if "P" in expected[name]]
    if of_classes and (privacy.min_samples > 1 or privacy.class_clip > 0):
        raise ConfigError(
            f"privacy.min-samples, privacy.class-clip: they act on {', '.join(sorted(CLASS_TENSORS))}, and not on "
            f"{of_classes[0]}, which method.name = {method.name!r} sends of each class; give its record one of these "
            "names, or leave the settings at their defaults"
        )
    if privacy.withhold and bare:
        raise ConfigError(
            f"privacy.withhold = true: no noise covers {bare[0]}, which method.name = {method.name!r} sends; set it to "
            "false"
        )


def restored(method: Method, start: object, saved: Tensors) -> object:
    """The method's state, restored from a checkpoint.

    Raises:
        ConfigError: the checkpoint lacks a tensor that the method's `restored` asks for, or one is not finite.
    """
    try:
        state = method.restored(start, saved)
    except KeyError as missing:
        raise ConfigError(
            f"the checkpoint has no {missing.args[0]}, from which method.name = {method.name!r} goes on: it is of "
            "other code; resume it with that which the run was begun with"
        ) from missing
    if name := _not_finite(method, state):
        raise ConfigError(
            f"the checkpoint is damaged ({name} is not finite); delete the newest file in the run's folder checkpoint "
            "to go on from the one before"
        )
    return state


def checked(step: ServerStep, mean: Tensors, method: Method) -> ServerStep:
    """What `server_step` gave, checked, and its metrics as Python floats.

    Args:
        step: what it gave in a round.
        mean: the averaged model that it was given.
        method: whose step it is.

    Raises:
        ConfigError: a tensor of the model is missing, unknown, of another type or shape, not finite, or a variance
            below zero; or a tensor of the new state or a metric is not finite.
    """
    if not isinstance(step, ServerStep):
        raise _wrong(method, "server_step", step, "a ServerStep")
    broke = f"method.name = {method.name!r}: its server_step"
    if difference := first_difference(mean, step.model):
        raise ConfigError(f"{broke} changed the model's tensors: {difference}")
    for name, tensor in step.model.items():  # even if it is the one that was given: it may have been changed in place
        if not torch.isfinite(tensor).all():
            raise ConfigError(f"{broke} made {name} not finite{_way_out(method)}")
        if name.endswith(VARIANCE) and (tensor < 0).any():
            raise ConfigError(f"{broke} made {name} negative; a variance is best left at the clients' mean")
    for name, value in step.metrics.items():
        if not isinstance(value, Real) or not math.isfinite(value):
            end = _way_out(method) or "; it must be a finite number"
            raise ConfigError(f"{broke} gave the metric {name} = {value!r}{end}")
    if name := _not_finite(method, step.state):
        raise ConfigError(f"{broke} made {name} not finite{_way_out(method)}")
    return replace(step, metrics={name: float(value) for name, value in step.metrics.items()})


def _not_finite(method: Method, state: object) -> str:
    """The first tensor that is saved or sent of a state and has an entry that is not finite; "" if none has."""
    named = {**method.tensors(state), **method.broadcast(state)}
    return next((name for name, tensor in named.items() if not torch.isfinite(tensor).all()), "")


def _way_out(method: Method) -> str:
    """Advice to lower the learning rates of the method's training on the server; "" if it has none."""
    settings = method.config.flat()
    rates = " or ".join(f"{key} = {settings[key]}" for key in method.server_rates)
    return f": what the server trains has diverged; lower {rates}" if rates else ""


def _wrong(method: Method, hook: str, value: object, wanted: str) -> ConfigError:
    """The error for a hook that gave something else than what is wanted of it."""
    return ConfigError(f"method.name = {method.name!r}: its {hook} gave {_kind(value)}, it must give {wanted}")


def _refuse_no_tensors(method: Method, hook: str, value: object) -> None:
    """Check that a hook gave tensors by name, which can be sent.

    Raises:
        ConfigError: it gave no dict of tensors.
    """
    if not isinstance(value, Mapping):
        raise _wrong(method, hook, value, "a dict of tensors")
    for name, tensor in value.items():
        if not isinstance(tensor, Tensor):
            raise _wrong(method, f"{hook}[{name!r}]", tensor, "a tensor")


def _kind(value: object) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, Tensor):
        return f"a tensor of shape {list(value.shape)}"
    name = type(value).__name__
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"
