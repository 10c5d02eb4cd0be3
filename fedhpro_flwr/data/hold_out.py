"""Split a test part off a data set that has none."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from fedhpro_flwr.data.data_set import IndexArray


def hold_out(
    labels: npt.NDArray[np.int64],
    test_share: float,
    seed: int,
    *,
    groups: npt.NDArray[np.int64] | None = None,
    key: str = "data.test-share",
) -> tuple[IndexArray, IndexArray]:
    """Split samples at random into training and test, class by class.

    Of the n samples of a class round(test_share * n) go to the test part, but never all. If there are groups, n counts
    these: a group goes to one part as a whole, and has the class of its first sample.

    Args:
        labels: class ids [N].
        test_share: between 0 and 1.
        seed: of the shuffle.
        groups: ids [N] of samples that stay together, like several pictures of one thing; None if none have to.
        key: the setting that gave the share, for the message.

    Returns:
        Ascending sample ids of the training and of the test part.

    Raises:
        ValueError: the share leaves no test sample at all.
    """
    if groups is None:
        test_ids = held_out(labels, test_share, seed)
    else:
        _, first, group_of = np.unique(groups, return_index=True, return_inverse=True)
        test_ids = np.flatnonzero(np.isin(group_of, held_out(labels[first], test_share, seed)))
    if len(test_ids) == 0:
        raise ValueError(
            f"{key} = {test_share} of {len(labels)} samples leaves no test sample: it is taken of each class, and "
            f"there are {len(np.unique(labels))}; use a larger share or more samples of a class"
        )
    return kept(labels, test_ids), test_ids


def held_out(labels: npt.NDArray[np.int64], test_share: float, seed: int) -> IndexArray:
    """The test part alone: ascending sample ids, none if no class has enough samples to give one up."""
    rng = np.random.default_rng(seed)
    test = []
    for label in np.unique(labels):
        members = rng.permutation(np.flatnonzero(labels == label))
        test.append(members[: min(round(test_share * len(members)), len(members) - 1)])
    return np.sort(np.concatenate(test)).astype(np.int64) if test else np.empty(0, np.int64)


def kept(labels: npt.NDArray[np.int64], test_ids: IndexArray) -> IndexArray:
    """The training part, all samples that are not in the test part: ascending sample ids."""
    return np.setdiff1d(np.arange(len(labels)), test_ids).astype(np.int64)
