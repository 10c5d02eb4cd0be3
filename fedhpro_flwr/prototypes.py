"""Global prototypes, one vector per class, which a server makes of the clients' class means (class_means.py).

Source: Tan et al., FedProto: Federated Prototype Learning across Heterogeneous Clients, AAAI 2022, eq. (3) and (6).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from fedhpro_flwr.margin_contrast import distances


@dataclass(frozen=True, eq=False)
class Prototypes:
    """Global prototypes, one per class."""

    vectors: Tensor  # [C, D]; zero for a class that is not known
    known: Tensor  # [C] bool: whether the class has a prototype yet

    @classmethod
    def none(cls, num_classes: int, width: int) -> Prototypes:
        """No prototypes: before any client has sent class means."""
        return cls(torch.zeros(num_classes, width), torch.zeros(num_classes, dtype=torch.bool))

    def on(self, device: torch.device) -> Prototypes:
        """The same on a device."""
        return Prototypes(self.vectors.to(device), self.known.to(device))

    def updated(self, vectors: Tensor, class_mask: Tensor) -> Prototypes:
        """These, with the classes in `class_mask` [C] replaced; a class that nobody sent keeps its prototype."""
        return Prototypes(torch.where(class_mask[:, None], vectors, self.vectors), self.known | class_mask)

    def scores(self) -> Callable[[Tensor], Tensor]:
        """Minus the Euclidean distance of features z [B, D] to each class's prototype [B, C]; unknown ones lose."""

        def nearness(z: Tensor) -> Tensor:
            here = self.on(z.device)
            return torch.where(here.known, -distances(z, here.vectors.to(z)), -torch.inf)

        return nearness


def squared_distance(z: Tensor, labels: Tensor, prototypes: Prototypes) -> Tensor:
    """(1 / B) sum_i mean_q (z_iq - p_q^{y_i})^2 over the samples whose class has a prototype: z [B, D], labels [B]."""
    known = prototypes.known[labels].to(z)  # [B]: a mask, so that no step waits to learn how many there are
    each = F.mse_loss(z, prototypes.vectors[labels], reduction="none").mean(dim=1)
    return (each * known).sum() / len(labels)
