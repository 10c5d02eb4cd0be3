"""The linear head: logits = W z + b, the only part of a model the method's equations look into."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from torch import Tensor
from torch.nn import functional as F

from fedhpro_flwr.settings.flat_keys import ConfigError

HEAD_WEIGHT, HEAD_BIAS = "head.weight", "head.bias"  # among a model's tensors


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
        """The logits on the features' device: a server's state is on the CPU, the features it tests need not be."""
        return self.like(features).logits(features)

    def like(self, tensor: Tensor) -> Head:
        """The same head, detached, in the dtype and on the device of a tensor."""
        return Head(self.weight.detach().to(tensor), self.bias.detach().to(tensor))


def head_shape(model: Mapping[str, Tensor]) -> tuple[int, int]:
    """(C, D) of the head among an initial model's tensors.

    Raises:
        ConfigError: they are no model with an encoder and a linear head.
    """
    weight = model.get(HEAD_WEIGHT)
    if weight is None or weight.ndim != 2:
        found = f"there are {', '.join(list(model)[:4]) or 'none'}" if weight is None else f"it is {list(weight.shape)}"
        raise ConfigError(
            f"the initial model must have a tensor {HEAD_WEIGHT} [C, D], {found}; "
            "make it by Model(encoder, head) with head = nn.Linear(D, C)"
        )
    classes, width = weight.shape
    return classes, width


def with_head(model: Mapping[str, Tensor], head: Head) -> dict[str, Tensor]:
    """The tensors of a model with this head, detached, in place of its own."""
    return {**model, HEAD_WEIGHT: head.weight.detach(), HEAD_BIAS: head.bias.detach()}


def head_of(model: Mapping[str, Tensor]) -> Head:
    """The linear head (W [C, D], b [C]) among a model's tensors.

    Raises:
        ConfigError: the model has no linear head, or one without a bias.
    """
    head_shape(model)
    if HEAD_BIAS not in model:
        raise ConfigError(
            "the model's head has no bias, which class gradients need: make it by nn.Linear(D, C), without bias=False, "
            "or choose a method that takes none"
        )
    return Head(model[HEAD_WEIGHT], model[HEAD_BIAS])
