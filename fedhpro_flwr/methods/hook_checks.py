"""Checks of what a method's own hooks give on the server, so that a mistake there is not blamed on a client."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from numbers import Real

import torch

from fedhpro_flwr.aggregation import VARIANCE
from fedhpro_flwr.config import ConfigError
from fedhpro_flwr.first_difference import first_difference
from fedhpro_flwr.head import Head
from fedhpro_flwr.methods.base import Method, ServerStep
from fedhpro_flwr.methods.hook_results import refuse_no_tensors, wrong
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
        raise wrong(method, "expects", expected, "a dict of shapes")
    for name, shape in expected.items():
        if not isinstance(shape, tuple):
            raise wrong(method, f"expects[{name!r}]", shape, "a tuple of sizes")
    sent = method.broadcast(state)
    refuse_no_tensors(method, "broadcast", sent)
    refuse_no_tensors(method, "tensors", method.tensors(state))
    for hook, value, kind in (
        ("prototypes", method.prototypes(sent), Prototypes),
        ("tested_head", method.tested_head(sent), Head),
    ):
        if value is not None and not isinstance(value, kind):
            raise wrong(method, hook, value, f"a {kind.__name__} or None")
    if taken := sorted(TAKEN & {*expected, *sent}):
        raise ConfigError(
            f"method.name = {method.name!r}: every message has a record {taken[0]} already; rename its own"
        )
    if CLASS_IDS not in expected and (rows := sorted(name for name, shape in expected.items() if "P" in shape)):
        raise ConfigError(
            f"method.name = {method.name!r}: {rows[0]} has a row for each of a client's classes, 'P' in `expects`, "
            f"which needs a record {CLASS_IDS} that says which they are"
        )
    bare = sorted(expected.keys() - {*CLASS_TENSORS, CLASS_IDS, CLASS_COUNTS})
    privacy = method.config.privacy
    of_classes = [name for name in bare if "P" in expected[name]]
    if of_classes and (privacy.min_samples > 1 or privacy.class_clip > 0):
        raise ConfigError(
            f"privacy.min-samples, privacy.class-clip: they act on {', '.join(sorted(CLASS_TENSORS))}, and not on "
            f"{of_classes[0]}, which method.name = {method.name!r} sends of each class; give its record one of these "
            "names, or leave the settings at their defaults"
        )
    if method.config.privacy.withhold and bare:
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
        raise wrong(method, "server_step", step, "a ServerStep")
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
