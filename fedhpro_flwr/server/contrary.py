r"""Clients whose model moved against the others': neither a median nor a bound on lengths tells them from honest ones.

.. math::
    m = \mathrm{median}_k (w_k - w), \qquad \text{client } k \text{ is contrary if } \cos(w_k - w, m) < 0

By the sign of this cosine, Cao et al., FLTrust: Byzantine-robust Federated Learning via Trust Bootstrapping, NDSS 2021,
decide whether an update counts at all. There m is the server's own update on data that it trusts; here, where the
server needs no data, it is the coordinate-wise median of the clients' updates (Yin et al., ICML 2018).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from fedhpro_flwr.aggregation import RUNNING_STATISTICS
from fedhpro_flwr.records import Update
from fedhpro_flwr.robust import cut_of, middle_mean
from fedhpro_flwr.server.replies import Collected


def without_contrary(replies: Collected[Update], sent: Mapping[str, Tensor]) -> Collected[Update]:
    """The replies of a round, with contrary clients set aside by name.

    Args:
        replies: the round's, as collected so far.
        sent: w, the tensors that all clients exchange (with different architectures the head alone).
    """
    directions = agreement([update.model for update in replies.good], sent)
    good = [update for update, cosine in zip(replies.good, directions, strict=True) if cosine >= 0]
    left_out = [
        f"client {update.partition_id}: its model moved against the median client's (cosine {cosine:.2f})"
        for update, cosine in zip(replies.good, directions, strict=True)
        if cosine < 0
    ]
    return replace(replies, good=good, set_aside=[*replies.set_aside, *left_out])


def agreement(models: Sequence[Mapping[str, Tensor]], sent: Mapping[str, Tensor]) -> list[float]:
    """cos(w_k - w, m) of each client over the parameters in `sent`; 0 where either has no length."""
    if not models:
        return []
    dots = torch.zeros(len(models), dtype=torch.float64)
    squares, square = torch.zeros_like(dots), 0.0
    for name, before in sent.items():
        if not before.is_floating_point() or name.endswith(RUNNING_STATISTICS):
            continue  # statistics move in the same direction at a client that turns its parameters around
        # One tensor at a time, so that the clients' models are not all held in float64 as well.
        moves = torch.stack([(model[name].double() - before.double()).flatten() for model in models])  # [N, numbers]
        everybody = torch.ones(len(models), 1, dtype=torch.bool)
        median = middle_mean(moves[:, None], everybody, cut_of("median", everybody.sum(dim=0), 0.0))[0]
        dots += moves @ median
        squares += moves.square().sum(dim=1)
        square += float(median @ median)
    lengths = (squares * square).sqrt()
    cosines: list[float] = torch.where(lengths > 0, dots / lengths, 0.0).tolist()
    return cosines
