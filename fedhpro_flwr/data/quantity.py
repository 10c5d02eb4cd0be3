"""`quantity`: quantity skew; the sizes of the clients are drawn from Dirichlet(alpha), their classes are not skewed."""

from __future__ import annotations

import numpy as np

from fedhpro_flwr.data.data_set import IndexArray

MAX_REDRAWS = 1_000


def quantity(kept: IndexArray, num_partitions: int, alpha: float, min_samples: int, seed: int) -> list[IndexArray]:
    """Shuffle, then cut at Dirichlet sizes (Li et al., Federated Learning on Non-IID Data Silos, ICDE 2022).

    Args:
        kept: ids of the samples to divide.
        num_partitions: number of clients.
        alpha: concentration > 0; smaller is more skewed.
        min_samples: the fewest samples a client may have; sizes are drawn again until each has as many.
        seed: of the draws.

    Returns:
        Sample ids of each client.

    Raises:
        ValueError: no draw out of 1,000 gave every client `min_samples`.
    """
    rng = np.random.default_rng(seed)
    order = rng.permutation(kept)
    for _ in range(MAX_REDRAWS):
        cuts = np.floor(np.cumsum(rng.dirichlet(np.full(num_partitions, alpha))) * len(order)).astype(np.int64)[:-1]
        parts = np.split(order, cuts)
        if min(len(part) for part in parts) >= min_samples:
            return parts
    raise ValueError(
        f"partition.scheme = 'quantity': {MAX_REDRAWS} draws with alpha = {alpha} left one of {num_partitions} clients "
        f"with fewer than partition.min-samples = {min_samples} samples; "
        "use a larger alpha, fewer clients or a smaller minimum"
    )
