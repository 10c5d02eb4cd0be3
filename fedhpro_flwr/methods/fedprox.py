r"""FedProx: Li et al., Federated Optimization in Heterogeneous Networks, MLSys 2020.

.. math::
    L_k(w) = CE(w) + \frac{\mu}{2} \|w - w^r\|^2

with w^r the part of the model that the client received: an encoder that stays with its client (`model.share = "head"`)
is not pulled. The server averages as FedAvg does.
"""

from __future__ import annotations

import torch

from fedhpro_flwr.exchange import travels
from fedhpro_flwr.methods.arrival import Arrival, Correction
from fedhpro_flwr.methods.base import Method, method


@method("fedprox")
class FedProx(Method):
    """The proximal term's gradient mu (w - w^r) is added to each step's; the reported training loss is without it."""

    def correction(self, arrival: Arrival) -> Correction:
        """grad <- grad + mu (w - w^r) for every parameter that was received and is trained."""
        mu = self.config.fedprox.mu
        trained = [
            parameter
            for name, parameter in arrival.model.named_parameters()
            if parameter.requires_grad and travels(name, self.share)
        ]
        received = [parameter.detach().clone() for parameter in trained]

        @torch.no_grad()
        def pull() -> None:
            for parameter, start in zip(trained, received, strict=True):
                if parameter.grad is not None:
                    parameter.grad.add_(parameter, alpha=mu).sub_(start, alpha=mu)

        return pull
