"""Checks of what a method's hooks give, made at once: else torch would complain, far from the mistake."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from fedhpro_flwr.config import ConfigError
from fedhpro_flwr.methods.arrival import Departure
from fedhpro_flwr.methods.base import Method


def wrong(method: Method, hook: str, value: object, wanted: str) -> ConfigError:
    """The error for a hook that gave something else than what is wanted of it."""
    return ConfigError(f"method.name = {method.name!r}: its {hook} gave {_kind(value)}, it must give {wanted}")


def refuse_no_tensors(method: Method, hook: str, value: object) -> None:
    """Check that a hook gave tensors by name, which can be sent.

    Raises:
        ConfigError: it gave no dict of tensors.
    """
    if not isinstance(value, Mapping):
        raise wrong(method, hook, value, "a dict of tensors")
    for name, tensor in value.items():
        if not isinstance(tensor, Tensor):
            raise wrong(method, f"{hook}[{name!r}]", tensor, "a tensor")


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
    refuse_no_tensors(method, "upload", upload)
    for hook, value in (("local_loss", loss), ("correction", correction)):
        if value is not None and not callable(value):
            raise wrong(method, hook, value, "a function or None")
    if offsets is not None and (not isinstance(offsets, Tensor) or offsets.shape != (num_classes,)):
        raise wrong(method, "logit_offsets", offsets, f"a tensor of shape [{num_classes}] or None")


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
        raise wrong(method, "depart", departure, "a Departure")
    refuse_no_tensors(method, "depart: upload", departure.upload)
    refuse_no_tensors(method, "depart: memory", departure.memory)
    if twice := sorted(upload.keys() & departure.upload.keys()):
        raise ConfigError(f"method.name = {method.name!r}: its upload and its depart both send {twice[0]}; rename one")


def _kind(value: object) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, Tensor):
        return f"a tensor of shape {list(value.shape)}"
    name = type(value).__name__
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"
