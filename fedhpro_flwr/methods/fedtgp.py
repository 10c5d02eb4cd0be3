r"""FedTGP: Zhang et al., FedTGP: Trainable Global Prototypes with Adaptive-Margin-Enhanced Contrastive Learning for
Data and Model Heterogeneity in Federated Learning, AAAI 2024.

.. math::
    L_k = CE + \lambda \frac{1}{B} \sum_i d(z_i, \hat P^{y_i}), \qquad
    \min_{\check P, F} \sum_k \sum_{c \in C_k} -\log \frac{e^{-(|P_k^c - \hat P^c| + \delta)}}
    {e^{-(|P_k^c - \hat P^c| + \delta)} + \sum_{j \ne c} e^{-|P_k^c - \hat P^j|}}, \qquad
    \delta = \min(\max_{a, b} |Q^a - Q^b|, \tau)

with P_k^c the mean feature of class c at client k, P-hat = F(P-check) the global prototypes (trainable_prototypes.py)
and Q^c the plain mean of P_k^c over the clients that hold c; d is the mean squared difference, as in FedProto and in
the authors' code. In round 1 there are no prototypes yet. A class that no client has ever sent is a negative to the
others, as published, but clients and the nearest-prototype test leave it out: nothing keeps its prototype in place.
For the maximum in delta, the released code takes the largest distance of any class to its nearest other class.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, cast

import torch
from torch import Tensor

from fedhpro_flwr.class_means import ClassMeans
from fedhpro_flwr.margin_contrast import widest_gap
from fedhpro_flwr.methods.arrival import Arrival, LocalLoss
from fedhpro_flwr.methods.base import method
from fedhpro_flwr.methods.prototype_method import HasPrototypes, PrototypeMethod
from fedhpro_flwr.methods.trainable_prototypes import TrainablePrototypes
from fedhpro_flwr.prototypes import Prototypes, squared_distance
from fedhpro_flwr.records import Tensors
from fedhpro_flwr.seeding import Draws


@dataclass(frozen=True, eq=False)
class FedTGPState:
    """What the server trains on from round to round, and what came of it in the last one."""

    trainable: TrainablePrototypes
    prototypes: Prototypes  # P-hat; known are the classes that some client has sent


@method("fedtgp")
class FedTGP(PrototypeMethod):
    """L = CE + lambda |z - p^y|^2 / D; p is trained on the server, away from other classes' client prototypes."""

    takes_hyper_prototypes: ClassVar[bool] = True
    averages_classes: ClassVar[bool] = False  # the server trains on each client's class means

    @property
    def server_rates(self) -> tuple[str, ...]:
        """The rate of the prototypes' training."""
        return super().server_rates or ("fedtgp.server-lr",)

    def start_prototypes(self, num_classes: int, width: int) -> FedTGPState:
        """A random start; no class is known."""
        generator = Draws(self.config.seed).torch("trainable-prototypes")
        return FedTGPState(
            TrainablePrototypes.start(num_classes, width, generator), Prototypes.none(num_classes, width)
        )

    def update_prototypes(self, state: HasPrototypes, means: Sequence[ClassMeans], draws: Draws) -> FedTGPState:
        """S epochs on the clients' class means, from where the last round ended."""
        options, before = self.config.fedtgp, cast(FedTGPState, state)
        q, class_mask = self.averaged(means, len(before.prototypes.known))  # Q [C, D]
        trainable = before.trainable.trained(
            torch.cat([each.means for each in means]),
            torch.cat([each.class_ids for each in means]),
            margin=widest_gap(q[class_mask]).clamp_max(options.margin_threshold),
            epochs=options.server_epochs,
            batch_size=options.server_batch_size,
            lr=options.server_lr,
            generator=draws.torch("trainable-prototypes"),
        )
        known = before.prototypes.known | class_mask
        return FedTGPState(trainable, Prototypes(torch.where(known[:, None], trainable.vectors(), 0.0), known))

    def prototype_loss(self, arrival: Arrival, prototypes: Prototypes) -> LocalLoss:
        """Lambda times the squared distance to the class's prototype."""
        weight = self.config.fedtgp.weight
        return lambda batch: weight * squared_distance(batch.z, batch.labels, prototypes)

    def tensors(self, state: object) -> dict[str, Tensor]:
        """The prototypes under their wire names, and the vectors and layers behind them."""
        trainable = state.trainable._asdict() if isinstance(state, FedTGPState) else {}  # else hyper-prototypes
        return super().tensors(state) | {name.replace("_", "-"): tensor for name, tensor in trainable.items()}

    def restore_prototypes(self, saved: Tensors) -> FedTGPState:
        """The vectors and layers, and the prototypes that came of them."""
        trained = (saved[name.replace("_", "-")] for name in TrainablePrototypes._fields)
        return FedTGPState(TrainablePrototypes(*trained), self.prototypes(saved))
