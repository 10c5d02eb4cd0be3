"""`nid1`: the reference's label skew, Dirichlet draws with balancing and a final cut into equal clients.

Dirichlet shares are drawn for ten bins at a time; a bin that holds its fair share already is passed over. The
bins are then joined into one list and cut into equal parts, so a client is a mixture of two or three
neighbouring bins.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from fedhpro_flwr.data.data_set import IndexArray

BINS = 10  # the reference draws shares for at most ten clients at once
MAX_RESTARTS = 100_000  # long tails at alpha = 0.05 were seen to need 12,000
MAX_REDRAWS = 1_000


def nid1(
    labels: IndexArray, kept: IndexArray, num_classes: int, num_partitions: int, alpha: float, seed: int
) -> list[IndexArray]:
    """Divide the kept samples among clients as the reference does, draw by draw.

    Args:
        labels: class ids [N] of all samples.
        kept: ids of the samples to divide, class after class.
        num_classes: C.
        num_partitions: clients, at least ten.
        alpha: Dirichlet concentration > 0; smaller is more skewed.
        seed: of NumPy's legacy generator.

    Returns:
        Sample ids of each client; sizes differ by at most one.

    Raises:
        ValueError: fewer than ten clients, or no balanced draw found (alpha far too small).
    """
    if num_partitions < BINS:
        raise ValueError(
            f"partition.scheme = 'nid1' needs at least {BINS} clients, got {num_partitions}; use 'dirichlet' for fewer"
        )
    random = np.random.RandomState(seed)
    order = kept.copy()
    random.shuffle(order)
    chunk_size = int(BINS / num_partitions * len(order))
    num_chunks = -(-num_partitions // BINS)
    bins: list[IndexArray] = []
    for i in range(num_chunks):
        stop = (i + 1) * chunk_size if i < num_chunks - 1 else len(order)  # the last chunk takes the rest
        width = min(BINS, num_partitions - i * BINS)
        bins += _fill_bins(order[i * chunk_size : stop], labels, num_classes, width, alpha, random)
    return [part.astype(np.int64) for part in np.array_split(np.concatenate(bins), num_partitions)]


def _fill_bins(
    chunk: IndexArray,
    labels: IndexArray,
    num_classes: int,
    width: int,
    alpha: float,
    random: np.random.RandomState,
) -> list[IndexArray]:
    by_class = [chunk[labels[chunk] == c] for c in range(num_classes)]  # ids keep the chunk's order
    fair = len(chunk) / width
    for _ in range(MAX_RESTARTS):
        bounds = []  # for each class the width + 1 ends of its slices; nothing is sliced before a draw is accepted
        sizes = np.zeros(width, dtype=np.int64)
        for members in by_class:
            shares = _open_shares(alpha, sizes < fair, random)
            ends = (shares.cumsum() * len(members)).astype(np.int64)
            ends[-1] = len(members)
            bounds.append([0, *ends.tolist()])
            sizes += ends
            sizes[1:] -= ends[:-1]
        if sizes.min() >= int(0.5 * fair):
            return [
                np.concatenate([m[b[k] : b[k + 1]] for m, b in zip(by_class, bounds, strict=True)])
                for k in range(width)
            ]
    raise ValueError(
        f"partition.alpha = {alpha} is too small for 'nid1': none of {MAX_RESTARTS} draws gave every "
        "client half of its fair share; use a larger alpha"
    )


def _open_shares(
    alpha: float, is_open: npt.NDArray[np.bool_], random: np.random.RandomState
) -> npt.NDArray[np.float64]:
    """Dirichlet shares [w] of the bins that are not full, summing to one."""
    for _ in range(MAX_REDRAWS):
        # For a tiny alpha all of the mass can sit on full bins, or the draw can be NaN: then shares are drawn again.
        shares = np.where(is_open, random.dirichlet([alpha] * len(is_open)), 0.0)
        total = shares.sum()
        if total > 0:
            return np.asarray(shares / total, dtype=np.float64)
        if not is_open.any():  # every bin exactly full: only classes without samples are left to divide
            return np.full(len(is_open), 1 / len(is_open))
    raise ValueError(f"partition.alpha = {alpha} is too small: all Dirichlet shares fell on clients that are full")
