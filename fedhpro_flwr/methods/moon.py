r"""MOON: Li et al., Model-Contrastive Federated Learning, CVPR 2021.

.. math::
    L_k = CE - \mu \frac{1}{B} \sum_i \log
    \frac{\exp(\cos(z_i, z_i^r) / \tau)}{\exp(\cos(z_i, z_i^r) / \tau) + \exp(\cos(z_i, z_i^{prev}) / \tau)}

with z^r the feature of the same sample under the received model and z^prev under the client's model after its last
visit. At its first visit z^prev is z^r, as published, so the term is the constant mu log 2 without a gradient: it is
neither computed nor part of the reported loss. The contrast is on the features that the head takes; the publication
puts a projection head of two layers before it (DEVIATIONS.md).
"""

from __future__ import annotations

import copy
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from fedhpro_flwr.methods.arrival import Arrival, Batch, Departure, LocalLoss
from fedhpro_flwr.methods.base import Method, method
from fedhpro_flwr.precision import forward_in
from fedhpro_flwr.settings.sections import Share


@method("moon")
class Moon(Method):
    """The client keeps its trained model for its next visit; the server averages as FedAvg does."""

    shares: ClassVar[tuple[Share, ...]] = ("all", "group")  # it contrasts with a global encoder

    def local_loss(self, arrival: Arrival) -> LocalLoss | None:
        """The model-contrastive loss; the received and the previous encoder are in eval mode, without gradients."""
        options, precision = self.config.moon, self.config.local.precision
        if not arrival.memory:
            return None
        received = copy.deepcopy(arrival.model.encoder).eval().requires_grad_(False)
        previous = copy.deepcopy(received)
        previous.load_state_dict(arrival.memory)

        def loss(batch: Batch) -> Tensor:
            with torch.no_grad(), forward_in(precision, batch.x.device):
                others = torch.stack([received(batch.x), previous(batch.x)], dim=1).float()  # [B, 2, D]
            similarity = F.cosine_similarity(batch.z[:, None], others, dim=2)  # [B, 2]
            received_is_right = batch.labels.new_zeros(len(similarity))
            return options.mu * F.cross_entropy(similarity / options.temperature, received_is_right)

        return loss

    def depart(self, arrival: Arrival, steps: int) -> Departure:
        """The trained encoder is remembered."""
        return Departure(memory=arrival.model.encoder.state_dict())
