"""What one process keeps between messages: one data set, its partition, a model of each architecture, and the own data
of each client (client/node_data.py).

In simulation an actor serves many clients, so this saves a decode and a build per message. Deployed, every message has
a fresh process, and nothing here relies on having been called before.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

from torch import Tensor

from fedhpro_flwr.config import ConfigError, RunConfig
from fedhpro_flwr.data import load
from fedhpro_flwr.data.federation import Federation, divide
from fedhpro_flwr.data.kept_tensor import file_state
from fedhpro_flwr.device import device_of
from fedhpro_flwr.initial_models import begins_trained, initial_model, untrained_model
from fedhpro_flwr.methods import build_method
from fedhpro_flwr.models import Model
from fedhpro_flwr.settings.declared_data import ShapedData

T = TypeVar("T")


@dataclass
class Resident:
    """The last value of each kind, remade when its key changes."""

    entries: dict[str, tuple[Hashable, Any]] = field(default_factory=dict)

    def get(self, kind: str, key: Hashable, make: Callable[[], T]) -> T:
        """The value kept under `kind` if it was made for `key`, or a new one."""
        if self.entries.get(kind, (None, None))[0] != key:
            self.entries.pop(kind, None)  # the old value goes before the new one is made
            self.entries[kind] = (key, make())
        return cast(T, self.entries[kind][1])


RESIDENT = Resident()


def federation(config: RunConfig) -> Federation:
    """The data set of a run and its partition, decoded once per process.

    Raises:
        ConfigError: the data cannot be had or cannot be divided as asked, in one sentence; or every client has its own.
    """
    if config.partition.at_nodes:
        raise ConfigError("partition.scheme = 'nodes': the data lies at the clients, there is none to divide")
    source, plan, seed = config.data, config.partition, config.seed
    try:
        data = RESIDENT.get("data", source, lambda: load(source))
        if data.num_classes < 2:
            raise ValueError(f"{source.path or source.name}: all samples are of one class; add some of another")
        return RESIDENT.get("federation", (source, plan, seed), lambda: divide(data, plan, seed))
    except (ValueError, OSError) as error:
        raise ConfigError(str(error)) from error


def configured_model(config: RunConfig, data: ShapedData, architecture: str = "") -> Model:
    """A model of an architecture, built once per process, with its initial weights if some stay with the client.

    Args:
        config: the settings.
        data: what it is to be trained on.
        architecture: a registered name; `model.name` if left out.

    Raises:
        ConfigError: as `initial_model`.
    """
    name, device = architecture or config.model.name, device_of(config)
    keeps = build_method(config).share in ("head", "nothing")  # else the server's model overwrites all of it
    shape = (data.input_shape, data.num_classes, data.vocabulary)
    key = (config.model, _start_of(config, name) if keeps else None, name, *shape, str(device), config.seed)

    def make() -> tuple[Model, dict[str, Tensor], list[bool]]:
        model = (initial_model if keeps else untrained_model)(config, data, name).to(device)
        trained = [parameter.requires_grad for parameter in model.parameters()]
        return model, {entry: tensor.clone() for entry, tensor in model.state_dict().items()}, trained

    model, initial, trained = RESIDENT.get(f"model {name}", key, make)
    model.load_state_dict(initial)  # the last client of this process left its own weights in it
    for parameter, is_trained in zip(model.parameters(), trained, strict=True):  # and what its method has frozen
        parameter.requires_grad_(is_trained)
    return model


def _start_of(config: RunConfig, architecture: str) -> tuple[int, ...]:
    """What identifies the file that models begin with, if any: one that was replaced meanwhile is another."""
    if not begins_trained(config):
        return ()
    from fedhpro_flwr.trained_start import weights_file

    with suppress(OSError, ConfigError):  # raised again when the file is read
        return file_state(weights_file(config.model.path, architecture))
    return ()
