"""FedAvg: McMahan et al., Communication-Efficient Learning of Deep Networks from Decentralized Data, AISTATS 2017.

Clients minimise cross-entropy; the server takes the mean of their models weighted by their sample counts. That is the
base of every method here, so there is nothing to add.
"""

from __future__ import annotations

from fedhpro_flwr.methods.base import Method, method


@method("fedavg")
class FedAvg(Method):
    """w = sum_k n_k w_k / sum_k n_k [R.c1]."""
