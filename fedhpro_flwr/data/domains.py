"""`domains`: domain skew; every client owns samples of one domain.

The clients of the first domain come first, then those of the second, and so on. A client draws its samples at random
from what the earlier clients of its domain have left, as FPL (Huang et al., CVPR 2023) and its successors do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np

from fedhpro_flwr.data.data_set import IndexArray
from fedhpro_flwr.listed import ten_of

DomainClasses = Literal["any", "every"]


def clients_of_domains(names: Sequence[str], wanted: Mapping[str, int], num_partitions: int) -> list[int]:
    """Domain id of every client [N], ascending.

    Args:
        names: the data set's domains.
        wanted: clients of each domain; empty deals the clients evenly, the first domains getting one more.
        num_partitions: N.

    Raises:
        ValueError: a domain the data does not have, or counts that do not add up to N.
    """
    if not names:
        raise ValueError("partition.scheme = 'domains' needs data with domains, and this data set has none")
    unknown = [name for name in wanted if name not in names]
    if unknown:
        raise ValueError(f"partition.domain-clients names {unknown[0]}; the domains are {ten_of(names)}")
    if wanted and sum(wanted.values()) != num_partitions:
        raise ValueError(
            f"partition.domain-clients gives {sum(wanted.values())} clients, "
            f"but partition.num-partitions = {num_partitions}; make them equal"
        )
    parts = np.array_split(np.arange(num_partitions), len(names))
    counts = [wanted.get(name, 0) if wanted else len(part) for name, part in zip(names, parts, strict=True)]
    return [domain for domain, count in enumerate(counts) for _ in range(count)]


def domains(
    labels: IndexArray,
    domain_ids: IndexArray,
    kept: IndexArray,
    owners: Sequence[int],
    names: Sequence[str],
    *,
    share: float,
    samples: int,
    classes: DomainClasses,
    seed: int,
) -> list[IndexArray]:
    """Give every client samples of its own domain.

    Args:
        labels, domain_ids: of all samples [n].
        kept: ids of the samples to divide.
        owners: domain id of every client [N].
        names: of the domains, for errors.
        share: of its domain's samples that a client gets, rounded down; 0 divides the domain evenly.
        samples: how many samples a client gets, whatever the share; 0 leaves it to `share`.
        classes: "every" makes sure that each class of the domain appears at each client.
        seed: of the draws.

    Returns:
        Sample ids of each client.

    Raises:
        ValueError: a domain with too few samples, or with too few of a class, for its clients.
    """
    rng = np.random.default_rng(seed)
    parts: list[IndexArray] = []
    for domain, name in enumerate(names):
        clients = sum(owner == domain for owner in owners)
        members = rng.permutation(kept[domain_ids[kept] == domain])
        # Rounded, because 0.29 * 100 is a little less than 29 in floating point.
        size = samples or int(round(share * len(members), 9)) or (0 if share else len(members) // max(clients, 1))
        if clients * size > len(members) or (clients and size == 0):
            raise ValueError(
                f"domain {name} has {len(members)} training samples, which is not enough for {clients} clients with "
                f"{size} each; see partition.domain-share, partition.samples-per-client and partition.domain-clients"
            )
        if classes == "every" and clients:
            members = _every_class_first(labels, members, clients, size, name)
        parts += [members[client * size : (client + 1) * size] for client in range(clients)]
    return parts


def _every_class_first(labels: IndexArray, members: IndexArray, clients: int, size: int, name: str) -> IndexArray:
    """Reorder a domain's samples so that each slice of `size` begins with one sample of every class."""
    by_class = [members[labels[members] == label] for label in np.unique(labels[members])]
    scarce = min(by_class, key=len)
    if len(scarce) < clients or len(by_class) > size:
        raise ValueError(
            f"partition.domain-classes = 'every': domain {name} has {len(by_class)} classes, the rarest with "
            f"{len(scarce)} samples, for {clients} clients with {size} samples each"
        )
    firsts = np.stack([of_class[:clients] for of_class in by_class], axis=1)  # [clients, classes]
    rest = members[~np.isin(members, firsts)]
    more = size - firsts.shape[1]
    fill = rest[: clients * more].reshape(clients, more)
    return np.concatenate([firsts, fill], axis=1).reshape(-1)
