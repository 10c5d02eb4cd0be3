"""Whether a checkpoint would hold all of a method's state: a gap would show only when a run is resumed, or never."""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from dataclasses import fields, is_dataclass

import torch
from torch import Tensor

from fedhpro_flwr.config import ConfigError
from fedhpro_flwr.methods.base import Method
from fedhpro_flwr.records import Tensors


def refuse_unrestored(method: Method, initial: Tensors, state: object) -> None:
    """Check that `restored` would make the state after a round again from a checkpoint of it.

    Args:
        method: whose state it is.
        initial: the whole initial global model, for `start`.
        state: after a round; before the first, `start` alone would restore even what is not saved.

    Raises:
        ConfigError: checkpoints are on, and a part of the state differs or `restored` asks for a tensor not saved.
    """
    if not method.config.checkpoint.every:
        return
    saved, anew = method.saved(state), copy(method)  # a method may keep things in itself, which `start` begins again
    mend = "give it in `tensors` or `saved`, or set checkpoint.every = 0"
    try:
        again = anew.restored(anew.start(initial), saved)
    except KeyError as missing:
        raise ConfigError(
            f"method.name = {method.name!r}: its `restored` asks for {missing.args[0]}, which no checkpoint would "
            f"have; {mend}"
        ) from missing
    if lost := _lost(state, again, "state") or _lost(vars(method), vars(anew), "self"):
        raise ConfigError(
            f"method.name = {method.name!r}: its {lost} does not come back from a checkpoint as it was, so a resumed "
            f"run would be another; {mend}"
        )


def _lost(state: object, again: object, where: str) -> str:
    """The first part that differs, as "state.velocity"; "" for none. Objects of other classes are not compared."""
    if isinstance(state, Tensor):
        same = isinstance(again, Tensor) and state.dtype == again.dtype and torch.equal(state.cpu(), again.cpu())
        return "" if same else where
    if state is None or isinstance(state, str | int | float):
        return "" if isinstance(again, type(state)) and state == again else where
    parts, others = _parts(state), _parts(again)
    if parts.keys() != others.keys():
        return where
    return next((lost for part in parts if (lost := _lost(parts[part], others[part], where + part))), "")


def _parts(state: object) -> dict[str, object]:
    if is_dataclass(state):
        return {f".{field.name}": getattr(state, field.name) for field in fields(state)}
    if isinstance(state, Mapping):
        return {f"[{key!r}]": value for key, value in state.items() if isinstance(key, str | int)}
    return {f"[{place}]": value for place, value in enumerate(state)} if isinstance(state, list | tuple) else {}
