"""Federated methods by name. Adding one is a file in this folder and its name in the import below."""

from __future__ import annotations

from fedhpro_flwr.config import RunConfig
from fedhpro_flwr.methods import (  # noqa: F401  they register themselves
    averaged,
    creff,
    fedavg,
    fedhpro,
    fedproto,
    fedprox,
    fedsa,
    fedtgp,
    fpl,
    local,
    moon,
    scaffold,
)
from fedhpro_flwr.methods.arrival import Arrival, Batch, Correction, Departure, LocalLoss
from fedhpro_flwr.methods.base import METHODS, Method, ServerStep, method
from fedhpro_flwr.methods.corrected import corrected
from fedhpro_flwr.methods.fedhpro import FedHPro
from fedhpro_flwr.methods.hyper_plug_in import plugged_in
from fedhpro_flwr.methods.prototype_method import PrototypeMethod

__all__ = [
    "METHODS",
    "Arrival",
    "Batch",
    "Correction",
    "Departure",
    "LocalLoss",
    "Method",
    "ServerStep",
    "build_method",
    "method",
]


def build_method(config: RunConfig) -> Method:
    """The method that `method.name` names.

    Raises:
        ConfigError: there is none of that name, or it cannot work with these settings.
    """
    chosen = METHODS.find(config.method.name)
    chosen.refuse(config)  # `flwr run` and a strategy in somebody's own app pass no other check
    if issubclass(chosen, FedHPro) and config.losses.correction == "control-variates":
        return corrected(chosen)(config)
    if issubclass(chosen, PrototypeMethod) and config.method.prototypes == "hyper":
        return plugged_in(chosen)(config)
    return chosen(config)
