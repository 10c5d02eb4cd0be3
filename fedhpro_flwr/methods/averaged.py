"""FedHPro's losses on plain averaged prototypes: the row of the publication's ablation without hyper-prototypes.

The server averages the clients' class means, each client counted once, and broadcasts one vector per class; clients
train with CE + HPCL [P.3] + HPAL [P.4] on those, as in fedhpro.py with K = 1. In round 1 there are no prototypes yet.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from fedhpro_flwr.class_means import ClassMeans
from fedhpro_flwr.config import RunConfig
from fedhpro_flwr.losses import Anchors
from fedhpro_flwr.methods.arrival import Arrival, Batch, LocalLoss
from fedhpro_flwr.methods.base import method
from fedhpro_flwr.methods.hpcl_hpal import hpcl_and_hpal, margin_of, refuse_margins
from fedhpro_flwr.methods.prototype_method import GlobalPrototypes, HasPrototypes, PrototypeMethod
from fedhpro_flwr.prototypes import Prototypes
from fedhpro_flwr.seeding import Draws


@method("averaged")
class Averaged(PrototypeMethod):
    """L = CE + w_1 HPCL + w_2 HPAL on p^c = mean over the clients that hold class c of their class means."""

    @classmethod
    def refuse(cls, config: RunConfig) -> None:
        """Also refuse settings of the margin that contradict each other."""
        super().refuse(config)
        refuse_margins(config.losses)

    def update_prototypes(self, state: HasPrototypes, means: Sequence[ClassMeans], draws: Draws) -> GlobalPrototypes:
        """The plain mean over clients."""
        before = state.prototypes
        mean, class_mask = self.averaged(means, len(before.known))
        return GlobalPrototypes(before.updated(mean, class_mask))

    def prototype_loss(self, arrival: Arrival, prototypes: Prototypes) -> LocalLoss | None:
        """HPCL and HPAL among the classes that have a prototype; samples of others get the cross-entropy alone."""
        known = prototypes.known  # [C]
        margin = margin_of(self.config, arrival)
        if isinstance(margin, Tensor):
            margin = margin[known][:, known]
        of_known = hpcl_and_hpal(self.config, Anchors.of(prototypes.vectors[known][:, None]), margin)
        if of_known is None or bool(known.all()):
            return of_known
        place = known.cumsum(0) - 1  # [C] index of each known class among the known ones

        def loss_of_all(batch: Batch) -> Tensor:
            return of_known(Batch(batch.x, place[batch.labels], batch.z))

        def loss_of_some(batch: Batch) -> Tensor:
            chosen = known[batch.labels]
            if not bool(chosen.any()):
                return batch.z.new_zeros(())
            # The mean is over the whole batch, as everywhere, so a few samples of known classes do not weigh as all.
            share = chosen.float().mean()
            return share * loss_of_all(Batch(batch.x[chosen], batch.labels[chosen], batch.z[chosen]))

        # Decided once: choosing in each step would make each step wait for the device.
        return loss_of_all if bool(known[arrival.train.labels].all()) else loss_of_some
