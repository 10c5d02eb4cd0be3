"""SGD with momentum and weight decay, by torch's own kernels, without torch's Optimizer object.

Constructing `torch.optim.SGD` imports the compiler: 2.6 s and 900 modules, once per process. A deployed client is a new
process for every message, so it would pay that in every round.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.optim.sgd import sgd


class LocalSGD:
    """v <- m v + (g + wd w), w <- w - lr v: bit-equal to `torch.optim.SGD(..., fused=True)`.

    Args:
        parameters: those that require a gradient, on one device.
        lr: learning rate.
        momentum, weight_decay: 0 for none.
    """

    def __init__(self, parameters: Iterable[Tensor], *, lr: float, momentum: float, weight_decay: float) -> None:
        self.parameters = [parameter for parameter in parameters if parameter.requires_grad]
        self.velocities: list[Tensor | None] = [None] * len(self.parameters)
        self.lr, self.momentum, self.weight_decay = lr, momentum, weight_decay

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for parameter in self.parameters:
            parameter.grad = None

    @torch.no_grad()
    def step(self) -> None:
        """Move every parameter that has a gradient."""
        moved = [place for place, parameter in enumerate(self.parameters) if parameter.grad is not None]
        if self.momentum and any(velocity is not None for velocity in self.velocities):
            for place in moved:  # a parameter without a gradient so far begins at rest: v = m 0 + g
                if self.velocities[place] is None:
                    self.velocities[place] = torch.zeros_like(self.parameters[place])
        velocities = [self.velocities[place] for place in moved]
        sgd(
            [self.parameters[place] for place in moved],
            [gradient for place in moved if (gradient := self.parameters[place].grad) is not None],
            velocities,
            fused=True,
            weight_decay=self.weight_decay,
            momentum=self.momentum,
            lr=self.lr,
            dampening=0.0,
            nesterov=False,
            maximize=False,
        )
        for place, velocity in zip(moved, velocities, strict=True):
            self.velocities[place] = velocity
