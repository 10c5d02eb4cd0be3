"""What a client (or the server, for testing) holds: its samples on the device, and what an encoder is given of them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

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

    def encoder_inputs(self, inputs: Tensor) -> Tensor:
        """A batch as encoders take it: numbers normalised, images in channels_last (fastest), tokens as they are."""
        if inputs.dtype == torch.int32:
            return inputs
        x = to_float(inputs, *self._normalisation)
        return x.contiguous(memory_format=torch.channels_last) if x.ndim == 4 else x

    def to(self, device: torch.device) -> ClientData:
        """The same samples on a device."""
        train, test = (split and split.to(device) for split in (self.train, self.test))
        return ClientData(train, test, self.mean, self.std)

    @cached_property
    def _normalisation(self) -> tuple[Tensor, Tensor]:
        return torch.tensor(self.mean, device=self.device), torch.tensor(self.std, device=self.device)
