"""Part of the training samples in place of the test data: for choosing settings without looking at the test data."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from fedhpro_flwr.data.data_set import DataSet
from fedhpro_flwr.data.hold_out import hold_out

SEED = 0x5A11D  # keeps the choice apart from the split of the test part, which may have the same seed


def validation(data: DataSet, share: float, seed: int) -> DataSet:
    """The data set with `share` of its training samples, of each class of each domain, in place of its test samples.

    If there are groups, `share` counts groups: none is divided.

    Args:
        data: whose test split is dropped.
        share: between 0 and 1, both excluded.
        seed: of the choice.

    Raises:
        ValueError: the share leaves no sample to test on.
    """
    train = data.train
    mixed = int(np.random.default_rng([SEED, seed]).integers(2**31))
    groups = None if train.groups is None else train.groups.numpy()
    kept, held = hold_out(
        train.kinds(data.num_classes).numpy(), share, mixed, groups=groups, key="data.validation-share"
    )
    return replace(data, train=train.subset(kept), test=train.subset(held))
