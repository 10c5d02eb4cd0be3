"""What one process keeps between messages: the data set, its partition, and one model instance.

In simulation an actor serves many clients, so this saves a decode and a build per message. Deployed, every message is
a fresh process and nothing here relies on having been called before. The cache is the package's only global state, and
holds one entry of each kind: a data set, its partition, a model of each architecture, and the own data of each client
(client/node_data.py).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Hashable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fedhpro_flwr.client_data import ClientData
from fedhpro_flwr.config import ConfigError, RunConfig
from fedhpro_flwr.data import DataSet, Split, load
from fedhpro_flwr.data.partition import Partition, PartitionPlan, partition, split_test
from fedhpro_flwr.initial_models import begins_trained, initial_model, untrained_model
from fedhpro_flwr.methods import build_method
from fedhpro_flwr.models import Model
from fedhpro_flwr.precision import has_bfloat16, repeat_on_gpu
from fedhpro_flwr.settings.declared_data import NODES, ShapedData

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


@dataclass(frozen=True, eq=False)
class Federation:
    """A data set divided among clients."""

    data: DataSet
    parts: Partition
    test_parts: tuple[np.ndarray, ...]  # sample ids of each client's own test data

    @property
    def class_counts(self) -> np.ndarray:
        """Training samples by client and class [N, C]."""
        return self.parts.class_counts(self.data.train.labels.numpy(), self.data.num_classes)

    def client(self, partition_id: int) -> ClientData:
        """The samples of one client.

        Raises:
            ValueError: there is no such partition.
        """
        if not 0 <= partition_id < len(self.parts.indices):
            raise ValueError(
                f"partition-id = {partition_id}: this run has partitions 0 to {len(self.parts.indices) - 1}"
            )
        train = self.data.train.subset(torch.from_numpy(self.parts.indices[partition_id]))
        own_test = torch.from_numpy(self.test_parts[partition_id])
        return ClientData(
            train, self.data.test.subset(own_test) if len(own_test) else None, self.data.mean, self.data.std
        )

    def client_domains(self) -> tuple[str, ...]:
        """The domain of each client; "" for a client of several, or where there are no domains."""
        train = self.data.train.domains
        owned = self.parts.domains(None if train is None else train.numpy())
        return tuple("" if domain is None else self.data.domain_names[domain] for domain in owned)


def federation(config: RunConfig) -> Federation:
    """The data set of a run and its partition, decoded once in a process.

    Raises:
        ConfigError: the data cannot be had or cannot be divided as asked, in one sentence; or every client has its own.
    """
    if config.partition.scheme == NODES:
        raise ConfigError("partition.scheme = 'nodes': the data lies at the clients, there is none to divide")
    source, plan, seed = config.data, config.partition, config.seed
    try:
        data = RESIDENT.get("data", source, lambda: load(source))
        if data.num_classes < 2:
            raise ValueError(f"{source.path or source.name}: all samples are of one class; add some of another")
        return RESIDENT.get("federation", (source, plan, seed), lambda: _divide(data, plan, seed))
    except (ValueError, OSError) as error:
        raise ConfigError(str(error)) from error


def _divide(data: DataSet, plan: PartitionPlan, seed: int) -> Federation:
    train, test, classes = data.train, data.test, data.num_classes
    parts = partition(
        train.labels.numpy(),
        classes,
        plan,
        seed,
        domain_ids=None if train.domains is None else train.domains.numpy(),
        domain_names=data.domain_names,
    )
    # A client's own test data has its mixture of classes, and of domains where there are any.
    kinds = classes * max(len(data.domain_names), 1)
    counts = parts.class_counts(_kinds(train, classes), kinds)
    return Federation(data, parts, split_test(_kinds(test, classes), counts, seed))


def _kinds(split: Split, classes: int) -> npt.NDArray[np.int64]:
    """Class and domain of each sample as one number."""
    numbers = split.labels if split.domains is None else split.domains * classes + split.labels
    return numbers.numpy()


def configured_model(config: RunConfig, data: ShapedData, architecture: str = "") -> Model:
    """A model of an architecture, built once in a process, with its initial weights where some stay with the client.

    Args:
        config: the settings.
        data: what it is to be trained on.
        architecture: a registered name; `model.name` if left out.

    Raises:
        ConfigError: as `initial_model`.
    """
    name, device = architecture or config.model.name, device_of(config)
    keeps = build_method(config).share in ("head", "nothing")  # else all of it is overwritten by what the server sends
    shape = (data.input_shape, data.num_classes, data.vocabulary)
    key = (config.model, _start_of(config, name) if keeps else None, name, *shape, str(device), config.seed)

    def make() -> tuple[Model, dict[str, Tensor]]:
        model = (initial_model if keeps else untrained_model)(config, data, name).to(device)
        return model, {entry: tensor.clone() for entry, tensor in model.state_dict().items()}

    model, initial = RESIDENT.get(f"model {name}", key, make)
    model.load_state_dict(initial)  # the last client of this process left its own in it
    return model


def _start_of(config: RunConfig, architecture: str) -> tuple[int, ...]:
    """Tells the weights that models begin with from those of a file that was replaced since."""
    if not begins_trained(config):
        return ()
    from fedhpro_flwr.trained_start import weights_file

    with suppress(OSError, ConfigError):  # said when it is read
        found = weights_file(config.model.path, architecture).stat()
        return found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_ino
    return ()


def device_of(config: RunConfig) -> torch.device:
    """The device a process computes on.

    Raises:
        ConfigError: `device = "cuda"` where there is none, or `local.precision` on a GPU that has no such arithmetic.
    """
    if config.device == "cuda" and not torch.cuda.is_available():
        raise ConfigError("device = 'cuda': this process sees no CUDA device; use 'cpu' or 'auto'")
    device = torch.device("cuda" if _on_gpu(config) else "cpu")
    if config.local.precision == "bfloat16" and not has_bfloat16(device):
        raise ConfigError(
            f"local.precision = 'bfloat16': {torch.cuda.get_device_name()} computes in no bfloat16; use 'float32'"
        )
    return device


def _on_gpu(config: RunConfig) -> bool:
    return config.device != "cpu" and torch.cuda.is_available()


def settle(config: RunConfig) -> None:
    """Fix what the arithmetic of a process depends on: the threads, which order the sums of floats; a GPU's kernels."""
    if torch.get_num_threads() != config.clients.threads:
        torch.set_num_threads(config.clients.threads)
    if _on_gpu(config):
        repeat_on_gpu(config.deterministic)


@cache
def code_fingerprint() -> str:
    """A hash over the three packages' sources: a client whose code is not the server's must not train unnoticed."""
    root = Path(__file__).resolve().parents[1]
    digest = hashlib.sha256()
    for package in ("fedhpro_flwr", "server_app", "client_app"):
        for path in sorted((root / package).rglob("*.py")):
            digest.update(f"{path.relative_to(root)}\n".encode() + path.read_bytes())
    return digest.hexdigest()[:16]
