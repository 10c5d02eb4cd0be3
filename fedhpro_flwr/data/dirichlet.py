"""`dirichlet`: plain label skew; the clients' shares of each class are drawn from Dirichlet(alpha).

`quantity` is the same with all samples as one class.
"""

from __future__ import annotations

import numpy as np

from fedhpro_flwr.data.data_set import IndexArray

MAX_REDRAWS = 1_000


def dirichlet(
    labels: IndexArray,
    kept: IndexArray,
    num_classes: int,
    num_partitions: int,
    alpha: float,
    min_samples: int,
    seed: int,
) -> list[IndexArray]:
    """Divide every class by its own Dirichlet draw; all are drawn again until each client has `min_samples`.

    Args:
        labels: class ids [N] of all samples.
        kept: ids of the samples to divide.
        num_classes: C.
        num_partitions: number of clients.
        alpha: concentration > 0; smaller is more skewed.
        min_samples: the fewest samples a client may have.
        seed: of the draws.

    Returns:
        Sample ids of each client.

    Raises:
        ValueError: no draw out of 1,000 gave every client `min_samples`.
    """
    rng = np.random.default_rng(seed)
    by_class = [rng.permutation(kept[labels[kept] == c]) for c in range(num_classes)]
    class_sizes = np.array([len(members) for members in by_class])
    for _ in range(MAX_REDRAWS):
        shares = rng.dirichlet(np.full(num_partitions, alpha), size=num_classes)  # [C, N]
        cuts = np.floor(np.cumsum(shares, axis=1) * class_sizes[:, None]).astype(np.int64)[:, :-1]  # [C, N-1]
        bounds = np.concatenate([np.zeros((num_classes, 1), np.int64), cuts, class_sizes[:, None]], axis=1)
        if np.diff(bounds, axis=1).sum(axis=0).min() >= min_samples:
            pieces = [np.split(members, cut) for members, cut in zip(by_class, cuts, strict=True)]
            return [np.concatenate([piece[k] for piece in pieces]) for k in range(num_partitions)]
    raise ValueError(
        f"{MAX_REDRAWS} draws with partition.alpha = {alpha} left one of {num_partitions} clients with fewer than "
        f"partition.min-samples = {min_samples} samples; "
        "use a larger alpha, fewer clients or a smaller minimum"
    )
