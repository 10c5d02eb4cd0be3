"""What a CUDA graph does, done by the CPU: operations are noted with the tensors they read and write, and repeated.

As with a graph, nothing of a recording is done yet when it ends, a repetition reads and writes the very tensors of the
recording, numbers that the host passed stay as they were, and an operation whose result the host must know cannot be
recorded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from pretended_device import WAITS
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class CpuRecorder:
    """The recorder of `fedhpro_flwr.client.replayed_step` for a machine without a GPU; counts what it is asked for."""

    def __init__(self) -> None:
        self.apart_calls, self.recordings, self.replays = 0, 0, 0

    @contextmanager
    def apart(self) -> Iterator[None]:
        self.apart_calls += 1
        yield

    def record(self, work: Callable[[], Tensor]) -> tuple[Tensor, Callable[[], object]]:
        self.recordings += 1
        noted = _Noted()
        try:
            with noted:
                result = work()
        finally:
            noted.undo()

        def replay() -> None:
            self.replays += 1
            noted.again()

        return result, replay


class _Noted(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Any, Any, dict[str, Any], list[Tensor]]] = []
        self.before: dict[int, tuple[Tensor, Tensor]] = {}  # what was there before the first operation wrote over it

    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if str(operation).rsplit(".", 1)[0] in WAITS:
            raise RuntimeError(f"operation not permitted when stream is capturing: {operation}")
        for tensor in _written(operation, args, kwargs):
            self.before.setdefault(id(tensor), (tensor, tensor.clone()))
        result = operation(*args, **kwargs)
        if not operation.is_view:
            made = [leaf for leaf in tree_leaves(result) if isinstance(leaf, Tensor)]
            self.calls.append((operation, args, kwargs, made))
        return result

    def undo(self) -> None:
        with torch.no_grad():
            for tensor, was in self.before.values():
                tensor.copy_(was)

    def again(self) -> None:
        with torch.no_grad():
            for operation, args, kwargs, made in self.calls:
                results = [leaf for leaf in tree_leaves(operation(*args, **kwargs)) if isinstance(leaf, Tensor)]
                for tensor, result in zip(made, results, strict=True):
                    if tensor is not result:
                        tensor.copy_(result)


def _written(operation: Any, args: Any, kwargs: dict[str, Any]) -> list[Tensor]:
    """The arguments that an operation's schema says it writes; BatchNorm's does not say it of its statistics."""
    written = list(args[3:5]) if str(operation).startswith("aten.native_batch_norm.") else []
    for place, argument in enumerate(operation._schema.arguments):
        if argument.alias_info is not None and argument.alias_info.is_write:
            value = args[place] if place < len(args) else kwargs.get(argument.name)
            written += [leaf for leaf in tree_leaves(value) if isinstance(leaf, Tensor)]
    return written
