"""What a method's hooks at the client are given, and what they give: the arrival, a batch, a loss, the departure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

from torch import Tensor

from fedhpro_flwr.client_data import ClientData
from fedhpro_flwr.data import Split
from fedhpro_flwr.features import encode
from fedhpro_flwr.models import Model
from fedhpro_flwr.records import Broadcast, Tensors
from fedhpro_flwr.seeding import Draws


@dataclass(frozen=True, eq=False)
class Batch:
    """One step's samples, as a method's loss sees them."""

    x: Tensor  # [B, ...] what the encoder was given: normalised, augmented
    labels: Tensor  # [B]
    z: Tensor  # [B, D] its features, with their graph


# With local.cuda-graph most steps replay the device work of a recorded step, without running these functions' Python.
LocalLoss = Callable[[Batch], Tensor]  # -> scalar, added to the cross-entropy
Correction = Callable[[], None]  # changes the gradients of the model's parameters in place, between backward and step


@dataclass(frozen=True, eq=False)
class Arrival:
    """A client that has received the model and not trained yet; in `depart`, after its training."""

    model: Model  # in eval mode
    data: ClientData
    received: Broadcast  # its tensors are on the CPU, as is the memory; model and data need not be
    draws: Draws
    memory: Tensors = field(default_factory=dict)  # the method's, from the last visit; empty at the first

    @property
    def train(self) -> Split:
        """The client's training samples.

        Raises:
            ValueError: there are none.
        """
        return self.data.training

    @cached_property
    def features(self) -> Tensor:
        """z [N, D] of all training samples in eval mode, encoded once and then kept: by the received model, and in
        `depart` by the trained one."""
        return encode(self.model, self.train.inputs, self.data.encoder_inputs)


@dataclass(frozen=True, eq=False)
class Departure:
    """What a client that has trained sends beside its model, and what it remembers until its next visit."""

    upload: Tensors = field(default_factory=dict)
    memory: Tensors = field(default_factory=dict)
