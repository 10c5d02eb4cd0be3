"""Federated methods by name. Adding one is a file in this folder and its name in the import below."""

from __future__ import annotations

from fedhpro_flwr.config import RunConfig
from fedhpro_flwr.methods import fedavg, fedhpro, local
from fedhpro_flwr.methods.base import METHODS, Arrival, LocalLoss, Method, ServerStep, method

__all__ = [
    "METHODS",
    "Arrival",
    "LocalLoss",
    "Method",
    "ServerStep",
    "build_method",
    "fedavg",
    "fedhpro",
    "local",
    "method",
]


def build_method(config: RunConfig) -> Method:
    """The method that `method.name` names.

    Raises:
        ConfigError: there is none of that name.
    """
    return METHODS.find(config.method.name)(config)
