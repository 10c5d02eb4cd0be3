r"""FPL: Huang et al., Rethinking Federated Learning with Domain Shift: A Prototype View, CVPR 2023.

.. math::
    L_k = CE + \frac{1}{B} \sum_i \left[ -\log
    \frac{\sum_{p \in P^{y_i}} \exp(\cos(z_i, p) / \tau)}{\sum_c \sum_{p \in P^c} \exp(\cos(z_i, p) / \tau)}
    + \frac{1}{D} \|z_i - U^{y_i}\|^2 \right], \qquad U^c = \frac{1}{|P^c|} \sum_{p \in P^c} p

The server clusters the clients' mean features of class c with FINCH (finch.py). P^c are the means of the clusters, the
cluster prototypes; U^c is the unbiased prototype, in which a cluster counts once, however many clients it has. The two
terms are the publication's CPCL and UPCR. As in the released code, FINCH's coarsest level with more than one cluster is
used; if there is none, as with one or two clients of a class, there is one cluster. UPCR is the mean over the D
coordinates, as in the released code; the publication's formula sums (`fpl.consistency = "sum"`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, cast

import torch
from torch import Tensor
from torch.nn import functional as F

from fedhpro_flwr.class_means import ClassMeans
from fedhpro_flwr.methods.arrival import Arrival, Batch, LocalLoss
from fedhpro_flwr.methods.base import method
from fedhpro_flwr.methods.finch import cluster_means, finch
from fedhpro_flwr.methods.prototype_method import HasPrototypes, PrototypeMethod
from fedhpro_flwr.prototypes import Prototypes, squared_distance
from fedhpro_flwr.records import Tensors
from fedhpro_flwr.seeding import Draws

CLUSTER_PROTOTYPES, CLUSTERS_PER_CLASS = "cluster-prototypes", "clusters-per-class"  # [C, J, D] float32, [C] int64


@dataclass(frozen=True, eq=False)
class ClusterPrototypes:
    """Several prototypes per class: the server's state, and what clients receive."""

    vectors: Tensor  # P [C, J, D], J the most that a class has; zeros after a class's own
    counts: Tensor  # |P^c| [C] int64; 0 for a class that is not known

    @classmethod
    def of(cls, by_class: Sequence[Tensor], width: int) -> ClusterPrototypes:
        """Made of the prototypes [J_c, D] of each class."""
        counts = torch.tensor([len(own) for own in by_class])
        vectors = torch.zeros(len(by_class), max(1, int(counts.max())), width)
        for label, own in enumerate(by_class):
            vectors[label, : len(own)] = own
        return cls(vectors, counts)

    @cached_property
    def prototypes(self) -> Prototypes:
        """U [C, D], the unbiased prototypes."""
        return Prototypes(self.vectors.sum(dim=1) / self.counts.clamp(min=1)[:, None], self.counts > 0)

    def of_class(self, label: int) -> Tensor:
        """P^c: [J_c, D]."""
        return self.vectors[label, : int(self.counts[label])]

    def listed(self) -> tuple[Tensor, Tensor]:
        """All prototypes as rows of one tensor [M, D], and the class of each [M]."""
        used = torch.arange(self.vectors.shape[1], device=self.counts.device) < self.counts[:, None]  # [C, J]
        return self.vectors[used], used.nonzero()[:, 0]


@method("fpl")
class FPL(PrototypeMethod):
    """L = CE + CPCL + UPCR on cluster prototypes; a class that no client of a round holds keeps its own."""

    averages_classes: ClassVar[bool] = False  # they are clustered

    # --- on the server ------------------------------------------------------------------------------------------------

    def start_prototypes(self, num_classes: int, width: int) -> ClusterPrototypes:
        """No class has a prototype yet."""
        return ClusterPrototypes.of([torch.zeros(0, width)] * num_classes, width)

    def update_prototypes(self, state: HasPrototypes, means: Sequence[ClassMeans], draws: Draws) -> ClusterPrototypes:
        """P^c <- the means of the clusters of the clients' class means, each client counted once."""
        before = cast(ClusterPrototypes, state)
        classes, _, width = before.vectors.shape
        ids = torch.cat([each.class_ids for each in means])
        features = torch.cat([each.means for each in means])  # [sum of P, D]
        return ClusterPrototypes.of(
            [
                cluster_prototypes(features[ids == label]) if bool((ids == label).any()) else before.of_class(label)
                for label in range(classes)
            ],
            width,
        )

    def broadcast(self, state: object) -> dict[str, Tensor]:
        """P [C, J, D] and how many of the J prototypes each class has [C]; clients compute U from them."""
        state = cast(ClusterPrototypes, state)
        return {CLUSTER_PROTOTYPES: state.vectors, CLUSTERS_PER_CLASS: state.counts}

    def restore_prototypes(self, saved: Tensors) -> ClusterPrototypes:
        """The state is the cluster prototypes alone."""
        return _received(saved)

    # --- at the client ------------------------------------------------------------------------------------------------

    def prototypes(self, received: Tensors) -> Prototypes:
        """U [C, D]."""
        return _received(received).prototypes

    def prototype_loss(self, arrival: Arrival, prototypes: Prototypes) -> LocalLoss:
        """CPCL + UPCR; a sample of a class without prototypes gets the cross-entropy alone."""
        options = self.config.fpl
        vectors, classes = _received(arrival.received.tensors).listed()
        vectors, classes = vectors.to(arrival.data.device), classes.to(arrival.data.device)
        scale = 1 if options.consistency == "mean" else vectors.shape[1]

        def loss(batch: Batch) -> Tensor:
            contrast = cluster_contrast(batch.z, batch.labels, vectors, classes, temperature=options.temperature)
            return contrast + scale * squared_distance(batch.z, batch.labels, prototypes)

        return loss


def cluster_prototypes(features: Tensor) -> Tensor:
    """The clients' mean features of one class [K, D] -> the means of their clusters [J, D]."""
    points = features.double().numpy()
    return torch.from_numpy(cluster_means(points, finch(points)[-1])).to(features)


def cluster_contrast(z: Tensor, labels: Tensor, vectors: Tensor, classes: Tensor, *, temperature: float) -> Tensor:
    """CPCL: (1 / B) sum_i -log of the softmax mass, over cosines divided by tau, on the prototypes of class y_i.

    Args:
        z: [B, D].
        labels: [B].
        vectors: cluster prototypes [M, D].
        classes: the class of each [M].
        temperature: tau.

    Returns:
        A scalar; samples of classes without a prototype add nothing to it.
    """
    similarity = F.normalize(z, dim=1) @ F.normalize(vectors, dim=1).T / temperature  # [B, M]
    own = labels[:, None] == classes  # [B, M]
    own = own | ~own.any(dim=1, keepdim=True)  # if none is a sample's own, all count as it: -log 1, without gradient
    return (similarity.logsumexp(dim=1) - similarity.masked_fill(~own, -torch.inf).logsumexp(dim=1)).mean()


def _received(received: Tensors) -> ClusterPrototypes:
    return ClusterPrototypes(received[CLUSTER_PROTOTYPES], received[CLUSTERS_PER_CLASS])
