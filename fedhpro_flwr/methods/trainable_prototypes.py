r"""FedTGP's server: a trainable vector per class, sent through a network of two layers that all classes share.

.. math::
    \hat P^c = F(\check P^c) = W_2 \, \mathrm{relu}(W_1 \check P^c + b_1) + b_2

The vectors and F are trained on the clients' class means by SGD on the contrast of margin_contrast.py.

Source: Zhang et al., FedTGP, AAAI 2024.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from fedhpro_flwr.margin_contrast import margin_contrast
from fedhpro_flwr.sgd import LocalSGD


class TrainablePrototypes(NamedTuple):
    """All that the server trains. H, the width of the hidden layer, equals D."""

    embeddings: Tensor  # P-check [C, D]
    hidden_weight: Tensor  # W_1 [H, D]
    hidden_bias: Tensor  # b_1 [H]
    output_weight: Tensor  # W_2 [D, H]
    output_bias: Tensor  # b_2 [D]

    @classmethod
    def start(cls, num_classes: int, width: int, generator: torch.Generator) -> TrainablePrototypes:
        """Vectors from N(0, 1), layers from U(-1/sqrt(D), 1/sqrt(D)), as torch draws an embedding and a layer."""
        bound = 1 / math.sqrt(width)

        def uniform(*shape: int) -> Tensor:
            return torch.empty(shape).uniform_(-bound, bound, generator=generator)

        return cls(
            torch.randn(num_classes, width, generator=generator),
            uniform(width, width),
            uniform(width),
            uniform(width, width),
            uniform(width),
        )

    def vectors(self) -> Tensor:
        """P-hat [C, D]."""
        hidden = F.relu(F.linear(self.embeddings, self.hidden_weight, self.hidden_bias))  # [C, H]
        return F.linear(hidden, self.output_weight, self.output_bias)

    def trained(
        self,
        points: Tensor,
        labels: Tensor,
        *,
        margin: float | Tensor,
        epochs: int,
        batch_size: int,
        lr: float,
        generator: torch.Generator,
    ) -> TrainablePrototypes:
        """New ones, after some epochs of plain SGD; these stay as they are.

        Args:
            points: the clients' class means, a row for each class of each client [P, D].
            labels: their classes [P].
            margin: delta of the contrast.
            epochs: S; every epoch takes the points in a new order.
            batch_size: points per step; the last batch of an epoch may be smaller.
            lr: learning rate.
            generator: for the orders.
        """
        moving = TrainablePrototypes(*(tensor.clone().requires_grad_() for tensor in self))
        optimizer = LocalSGD(moving, lr=lr, momentum=0.0, weight_decay=0.0)
        for _ in range(epochs):
            for chosen in torch.split(torch.randperm(len(points), generator=generator), batch_size):
                loss = margin_contrast(points[chosen], labels[chosen], moving.vectors(), margin)
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
        return TrainablePrototypes(*(tensor.detach() for tensor in moving))
