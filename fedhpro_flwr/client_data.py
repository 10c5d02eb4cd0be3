"""What a client (or the server, for testing) holds: its samples on the device, and how an encoder is given them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from fedhpro_flwr.data import Split
from fedhpro_flwr.data.augment import to_float


@dataclass(frozen=True, eq=False)
class ClientData:
    """A client's own samples.

    Args:
        train: what it trains on; None for a server that only tests.
        test: its own test data; None if it has none.
        mean, std: normalisation per channel, as in the data set.
    """

    train: Split | None
    test: Split | None
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @property
    def training(self) -> Split:
        """What it trains on.

        Raises:
            ValueError: there is none.
        """
        if self.train is None:
            raise ValueError("there is no training data")
        return self.train

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

    def refuse_unfit(self, num_classes: int) -> None:
        """Check for what training or a test would fail on, or would not notice.

        Args:
            num_classes: C of the model.

        Raises:
            ValueError: a label is no class of the model, training and test samples have different shapes, or mean and
                std do not fit the samples.
        """
        parts = [(part, split) for part, split in (("training", self.train), ("test", self.test)) if split]
        for part, split in parts:
            if (largest := int(split.labels.max())) >= num_classes:
                raise ValueError(f"a {part} label is {largest}, the model has {num_classes} classes")
        shapes = [list(split.inputs.shape[1:]) for _, split in parts]
        if len(shapes) == 2 and shapes[0] != shapes[1]:
            raise ValueError(f"training samples have the shape {shapes[0]} and test samples {shapes[1]}")
        for part, split in parts:
            if split.inputs.dtype == torch.int32:
                continue  # token ids are not normalised
            of_each, numbers = ("channel" if split.inputs.ndim == 4 else "feature"), split.inputs.shape[1]
            for name, given in zip(("mean", "std"), self._normalisation, strict=True):
                if given.numel() not in (1, numbers):
                    raise ValueError(
                        f"{name} has {given.numel()} numbers; {part} samples need {numbers}, of each {of_each}, or one"
                    )
            mean, std = self._normalisation
            if not bool(torch.isfinite(mean).all() & torch.isfinite(std).all() & (std > 0).all()):
                raise ValueError(f"mean {self.mean} and std {self.std} must be finite numbers, and std larger than 0")

    def to(self, device: torch.device) -> ClientData:
        """The same samples on a device."""
        train, test = (split and split.to(device) for split in (self.train, self.test))
        return ClientData(train, test, self.mean, self.std)

    @cached_property
    def _normalisation(self) -> tuple[Tensor, Tensor]:
        return torch.tensor(self.mean, device=self.device), torch.tensor(self.std, device=self.device)
