"""FedHPro: federated learning with hyper-prototypes matched by class gradients, as a Flower app and as a library.

    from fedhpro_flwr import ClientData, FedHProStrategy, Model, RunConfig, Split, make_client_app

Names are imported when they are first used: `import fedhpro_flwr` alone loads neither torch nor Flower.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from client_app.app import make_client_app
    from client_app.visit import visit
    from fedhpro_flwr.client_data import ClientData
    from fedhpro_flwr.config import ConfigError, RunConfig
    from fedhpro_flwr.data import DataSet, Split, data_set
    from fedhpro_flwr.exported.model import load_exported
    from fedhpro_flwr.hyper_prototypes import HyperPrototypes
    from fedhpro_flwr.methods import Method, method
    from fedhpro_flwr.models import Model, model
    from fedhpro_flwr.records import array_record
    from fedhpro_flwr.server.replies import QuorumError
    from server_app.strategy import FedHProStrategy

__version__ = "0.1.0"

_HOMES = {
    "ClientData": "fedhpro_flwr.client_data",
    "ConfigError": "fedhpro_flwr.config",
    "DataSet": "fedhpro_flwr.data",
    "FedHProStrategy": "server_app.strategy",
    "HyperPrototypes": "fedhpro_flwr.hyper_prototypes",
    "Method": "fedhpro_flwr.methods",
    "Model": "fedhpro_flwr.models",
    "QuorumError": "fedhpro_flwr.server.replies",
    "RunConfig": "fedhpro_flwr.config",
    "Split": "fedhpro_flwr.data",
    "array_record": "fedhpro_flwr.records",
    "data_set": "fedhpro_flwr.data",
    "load_exported": "fedhpro_flwr.exported.model",
    "make_client_app": "client_app.app",
    "method": "fedhpro_flwr.methods",
    "model": "fedhpro_flwr.models",
    "visit": "client_app.visit",
}

__all__ = [
    "ClientData",
    "ConfigError",
    "DataSet",
    "FedHProStrategy",
    "HyperPrototypes",
    "Method",
    "Model",
    "QuorumError",
    "RunConfig",
    "Split",
    "array_record",
    "data_set",
    "load_exported",
    "make_client_app",
    "method",
    "model",
    "visit",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = _HOMES[name]
    if home.startswith("fedhpro_flwr."):
        return getattr(import_module(home), name)
    from fedhpro_flwr.front_doors import sibling

    return getattr(sibling(home), name)
