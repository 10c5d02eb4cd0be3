"""Which tensor two sets of named tensors differ in, worded for the end of a sentence."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor


def first_difference(here: Mapping[str, Tensor], there: Mapping[str, Tensor]) -> str:
    """The first tensor by name whose type or shape differs, or that one side alone has; "" if there is none.

    Args:
        here: what is expected. Neither side's numbers are read, so both may be on torch's meta device.
        there: what was given.

    Returns:
        As "head.bias is float64 [10], here float32 [10]", for the end of a sentence.
    """
    for name in sorted(here.keys() | there.keys()):
        expected, given = shown(here.get(name)), shown(there.get(name))
        if expected != given:
            return f"{name} is {given}, here {expected}"
    return ""


def shown(tensor: Tensor | None) -> str:
    """A tensor's type and shape, as "float32 [10, 64]"."""
    return "missing" if tensor is None else f"{str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)}"
