"""A device that a machine without one can pretend to have: tensors "on" it are real, and the CPU computes with them.

To torch they lie on the device "meta", so whatever asks for `tensor.device` sees another one than the CPU's. An
operation that mixes them with tensors of the CPU fails as it would on a GPU; what makes the host wait for a GPU, or
copies between the two, is counted:

    with PretendedDevice() as device:
        x = torch.ones(3).to(DEVICE)     # a copy
        float(x.sum())                   # a wait
    assert device.crossings == ["aten._to_copy", "aten._local_scalar_dense"]
"""

from __future__ import annotations

from contextlib import ExitStack
from types import TracebackType
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_leaves, tree_map

DEVICE, HOST = torch.device("meta"), torch.device("cpu")
FROM_NUMBERS = (torch.tensor, torch.as_tensor)
WAITS = {  # the host must know the value, or the size, of the result before it can go on
    "aten._local_scalar_dense", "aten.is_nonzero", "aten.equal", "aten.nonzero", "aten.masked_select", "aten._unique2",
    "aten.unique_dim", "aten.unique_consecutive", "aten.bincount", "aten.repeat_interleave",
}  # fmt: skip
BY_INDEX = {"aten.index", "aten.index_put", "aten.index_put_"}
TAKES_BOTH = {"aten.copy_", *BY_INDEX}  # of tensors on two devices torch copies what it needs


class OnDevice(Tensor):
    """A tensor of the pretended device; `held` is what the CPU computes with."""

    held: Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    @staticmethod
    def __new__(cls, held: Tensor) -> OnDevice:
        made = Tensor._make_wrapper_subclass(
            cls, held.size(), strides=held.stride(), storage_offset=held.storage_offset(), dtype=held.dtype,
            layout=held.layout, device=DEVICE, requires_grad=held.requires_grad,
        )  # fmt: skip
        made.held = held
        return made

    def __repr__(self, *, tensor_contents: object = None) -> str:
        return f"OnDevice({self.held!r})"

    @classmethod
    def __torch_dispatch__(cls, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        # For what is done when nobody counts any more, as looking at a result.
        return _computed(operation, args, dict(kwargs or {}))


class PretendedDevice(TorchDispatchMode):
    """While it is entered, `crossings` grows by what waits or copies, by name and in order.

    Raises:
        RuntimeError: (an operation on it) for tensors of both the device and the CPU.
    """

    def __init__(self) -> None:
        super().__init__()
        self.crossings: list[str] = []
        self.stack = ExitStack()

    def __enter__(self) -> Self:
        super().__enter__()
        self.stack.enter_context(_NumbersSent())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stack.close()
        super().__exit__(kind, error, trace)

    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs, name = dict(kwargs or {}), str(operation).rsplit(".", 1)[0]
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        here = any(isinstance(tensor, OnDevice) for tensor in tensors)
        there = any(not isinstance(tensor, OnDevice) and tensor.ndim for tensor in tensors)  # numbers go anywhere
        target = kwargs.get("device")
        if not here and target != DEVICE:
            return operation(*args, **kwargs)
        masks = name in BY_INDEX and any(index is not None and index.dtype == torch.bool for index in args[1])
        moves = target is not None and bool(tensors) and (target == HOST) == here
        if moves or masks or (here and name in WAITS) or (here and there and name in TAKES_BOTH):
            self.crossings.append(name)
        elif here and there:
            raise RuntimeError(f"{operation} mixes tensors of the device and of the CPU")
        return _computed(operation, args, kwargs)


class _NumbersSent(TorchFunctionMode):
    """Numbers become a tensor of the device, and the reverse, on the host and by a copy, as for a GPU."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        device = kwargs.get("device")
        if function in FROM_NUMBERS and device is not None and torch.device(device) == DEVICE:
            kwargs.pop("device")
            return function(*args, **kwargs).to(DEVICE)
        if function is Tensor.tolist:
            return args[0].cpu().tolist()
        return function(*args, **kwargs)


def moved_there(model: nn.Module) -> None:
    """Move a module's parameters and buffers to the pretended device; `Module.to` does not know its tensors."""
    for module in model.modules():
        for name, parameter in module._parameters.items():
            if parameter is not None:
                there = OnDevice(parameter.detach().clone())
                module._parameters[name] = nn.Parameter(there, parameter.requires_grad)
        for name, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[name] = OnDevice(buffer.clone())


def _computed(operation: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    target = kwargs.get("device")
    if target is not None:
        kwargs = kwargs | {"device": HOST}
    result = operation(*tree_map(_held, args), **tree_map(_held, kwargs))
    if target == HOST:
        return result
    result = tree_map(lambda leaf: OnDevice(leaf) if isinstance(leaf, Tensor) else leaf, result)
    return return_and_correct_aliasing(operation, args, kwargs, result)


def _held(leaf: Any) -> Any:
    return leaf.held if isinstance(leaf, OnDevice) else leaf
