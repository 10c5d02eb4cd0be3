"""`shards`: pathological label skew; every client holds a fixed number of classes and no others."""

from __future__ import annotations

import numpy as np

from fedhpro_flwr.data.data_set import IndexArray


def shards(
    labels: IndexArray,
    kept: IndexArray,
    num_classes: int,
    num_partitions: int,
    classes_per_client: int,
    seed: int,
) -> list[IndexArray]:
    """Deal classes to clients, then divide the samples of a class evenly among the clients it was dealt to.

    Every client in turn gets the classes that were dealt least often so far, ties drawn at random: no client
    gets a class twice, and every class that has samples is dealt as soon as clients * classes_per_client
    allows it. If it does not, the classes left over belong to nobody.

    Args:
        labels: class ids [N] of all samples.
        kept: ids of the samples to divide.
        num_classes: C.
        num_partitions: number of clients.
        classes_per_client: classes of one client.
        seed: of the draws.

    Returns:
        Sample ids of each client.

    Raises:
        ValueError: more classes per client than classes that have samples.
    """
    rng = np.random.default_rng(seed)
    by_class = [rng.permutation(kept[labels[kept] == c]) for c in range(num_classes)]
    present = np.array([c for c, members in enumerate(by_class) if len(members)], dtype=np.int64)
    if classes_per_client > len(present):
        raise ValueError(
            f"partition.classes-per-client = {classes_per_client}, "
            f"but only {len(present)} of the {num_classes} classes have samples"
        )
    dealt = np.zeros(len(present), dtype=np.int64)
    holders: list[list[int]] = [[] for _ in present]
    for client in range(num_partitions):
        least_first = np.lexsort((rng.random(len(present)), dealt))
        for position in least_first[:classes_per_client]:
            holders[position].append(client)
            dealt[position] += 1
    pieces: list[list[IndexArray]] = [[] for _ in range(num_partitions)]
    for position, clients in enumerate(holders):
        if clients:
            parts = np.array_split(by_class[present[position]], len(clients))
            for client, part in zip(rng.permutation(clients), parts, strict=True):
                pieces[client].append(part)
    return [np.concatenate(piece) for piece in pieces]
