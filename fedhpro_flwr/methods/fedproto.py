r"""FedProto: Tan et al., FedProto: Federated Prototype Learning across Heterogeneous Clients, AAAI 2022.

.. math::
    L_k = CE + \lambda \frac{1}{B} \sum_i d(z_i, \bar C^{y_i}), \qquad
    \bar C^c = \sum_{k \in N_c} \frac{n_k^c}{n^c} C_k^c

with C_k^c the mean feature of class c at client k and N_c the clients that hold it; d is the mean squared difference.
The publication divides by |N_c| once more, which would make prototypes of means smaller than they are (DEVIATIONS.md).
As published only prototypes travel (`model.share = "nothing"`); with a shared model it is averaged as in FedAvg.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from fedhpro_flwr.class_means import ClassMeans
from fedhpro_flwr.methods.arrival import Arrival, LocalLoss
from fedhpro_flwr.methods.base import method
from fedhpro_flwr.methods.prototype_method import GlobalPrototypes, HasPrototypes, PrototypeMethod
from fedhpro_flwr.prototypes import Prototypes, squared_distance
from fedhpro_flwr.seeding import Draws


@method("fedproto")
class FedProto(PrototypeMethod):
    """L = CE + lambda |z - p^y|^2 / D; p^c is the mean over clients of their class means, by sample counts."""

    takes_hyper_prototypes: ClassVar[bool] = True

    def update_prototypes(self, state: HasPrototypes, means: Sequence[ClassMeans], draws: Draws) -> GlobalPrototypes:
        """Eq. (6) of the publication; its further division by the number of clients is left out (DEVIATIONS.md)."""
        before = state.prototypes
        mean, class_mask = self.averaged(means, len(before.known), "counts")
        return GlobalPrototypes(before.updated(mean, class_mask))

    def prototype_loss(self, arrival: Arrival, prototypes: Prototypes) -> LocalLoss:
        """Eq. (7): lambda times the squared distance to the class's prototype."""
        weight = self.config.fedproto.weight
        return lambda batch: weight * squared_distance(batch.z, batch.labels, prototypes)
