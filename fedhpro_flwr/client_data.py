"""What a client (or the server, for testing) holds: its samples on the device, and how they become floats."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fedhpro_flwr.data import Split
from fedhpro_flwr.data.augment import to_float


@dataclass(frozen=True, eq=False)
class ClientData:
    """A client's own samples. `test` is its own test data, None where it has none.

    Args:
        train: what it trains on; None for a server that only tests.
        test: what it is tested on.
        mean, std: normalisation per channel, as in the data set.
    """

    train: Split | None
    test: Split | None
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @property
    def device(self) -> torch.device:
        """Where the samples lie."""
        split = self.train or self.test
        return split.inputs.device if split else torch.device("cpu")

    def floats(self, inputs: Tensor) -> Tensor:
        """Inputs of a batch, normalised; images in channels_last, in which convolutions are fastest."""
        x = to_float(inputs, self.mean, self.std)
        return x.contiguous(memory_format=torch.channels_last) if x.ndim == 4 else x

    def to(self, device: torch.device) -> ClientData:
        """The same samples on a device."""
        return ClientData(_moved(self.train, device), _moved(self.test, device), self.mean, self.std)


def _moved(split: Split | None, device: torch.device) -> Split | None:
    return split and Split(split.inputs.to(device), split.labels.to(device))
