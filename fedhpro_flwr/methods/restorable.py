"""Whether a checkpoint would hold all of a method's state: a gap would show only when a run is resumed, or never."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from copy import copy, deepcopy
from dataclasses import fields, is_dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from fedhpro_flwr.config import ConfigError
from fedhpro_flwr.methods.base import Method
from fedhpro_flwr.records import Tensors
from fedhpro_flwr.seeding import Draws


def unstarted(method: Method) -> Method:
    """A copy of a method before its first round, with which `refuse_unrestored` tries whether all comes back."""
    try:
        return deepcopy(method)
    except Exception:  # it holds a lock or an open file, say; what it keeps in itself is then seen only in part
        return copy(method)


def refuse_unrestored(method: Method, anew: Method, initial: Tensors, state: object) -> None:
    """Check that `restored` would make the state after a round again from a checkpoint of it.

    Args:
        method: whose state it is.
        anew: the method as it was made, from `unstarted`; it is started.
        initial: the whole initial global model, for `start`.
        state: after a round; before the first, `start` alone would restore even what is not saved.

    Raises:
        ConfigError: checkpoints are on, and a part of the state differs or `restored` asks for a tensor not saved.
    """
    if not method.config.checkpoint.every:
        return
    saved = method.saved(state)
    mend = "give it in `tensors` or `saved`, or set checkpoint.every = 0"
    try:
        with Draws(method.config.seed).torch_everywhere():
            again = anew.restored(anew.start(initial), saved)
    except KeyError as missing:
        raise ConfigError(
            f"method.name = {method.name!r}: its `restored` asks for {missing.args[0]}, which no checkpoint would "
            f"have; {mend}"
        ) from missing
    # A method may keep things in itself. What it computes once and keeps in a cached_property is computed again.
    kept, back = (
        {
            name: value
            for name, value in vars(each).items()
            if not isinstance(getattr(type(each), name, 0), cached_property)
        }
        for each in (method, anew)
    )
    if lost := _lost(state, again, "state") or _lost(kept, {name: back.get(name) for name in kept}, "self"):
        raise ConfigError(
            f"method.name = {method.name!r}: its {lost} does not come back from a checkpoint as it was, so a resumed "
            f"run would be another; {mend}"
        )


def _lost(state: object, again: object, where: str) -> str:
    """The first part that differs, as "state.velocity"; "" for none. Objects of classes that neither this function nor
    `_parts` names are not compared."""
    if isinstance(state, Tensor):
        same = isinstance(again, Tensor) and state.dtype == again.dtype and torch.equal(state.cpu(), again.cpu())
        return "" if same else where
    if state is None or isinstance(state, str | int | float):
        return "" if isinstance(again, type(state)) and state == again else where
    if isinstance(state, np.ndarray):
        same = isinstance(again, np.ndarray) and state.dtype == again.dtype and np.array_equal(state, again)
        return "" if same else where
    if isinstance(state, set | frozenset | bytes):
        return "" if state == again else where
    parts, others = _parts(state), _parts(again)
    if parts.keys() != others.keys():
        return where
    return next((lost for part in parts if (lost := _lost(parts[part], others[part], where + part))), "")


def _parts(state: object) -> dict[str, object]:
    if is_dataclass(state):
        return {f".{field.name}": getattr(state, field.name) for field in fields(state)}
    if isinstance(state, Mapping):
        return {f"[{key!r}]": value for key, value in state.items() if isinstance(key, str | int)}
    if isinstance(state, Optimizer | nn.Module):
        return {".state_dict()": state.state_dict()}
    if isinstance(state, torch.Generator):
        return {".get_state()": state.get_state()}
    return {f"[{place}]": value for place, value in enumerate(state)} if isinstance(state, list | tuple | deque) else {}
