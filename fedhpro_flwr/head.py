"""The linear head: logits = W z + b, the only part of a model the method's equations look into."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor
from torch.nn import functional as F


class Head(NamedTuple):
    """Weight and bias of the last linear layer."""

    weight: Tensor  # W [C, D]
    bias: Tensor  # b [C]

    @property
    def num_classes(self) -> int:
        """C, the number of classes."""
        return self.weight.shape[0]

    @property
    def width(self) -> int:
        """D, the width of the features."""
        return self.weight.shape[1]

    def logits(self, features: Tensor) -> Tensor:
        """W z + b for features of any leading shape: [..., D] -> [..., C]."""
        return F.linear(features, self.weight, self.bias)

    def scores(self, features: Tensor) -> Tensor:
        """The logits where the features lie: a server's state is on the CPU, what it tests need not be."""
        return self.like(features).logits(features)

    def like(self, tensor: Tensor) -> Head:
        """The same head, detached, in the dtype and on the device of a tensor."""
        return Head(self.weight.detach().to(tensor), self.bias.detach().to(tensor))
