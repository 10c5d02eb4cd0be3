"""`digits`: the 1,797 handwritten digits of 8x8 pixels that come with scikit-learn; nothing to download."""

from __future__ import annotations

import numpy as np
import torch

from fedhpro_flwr.data.data_set import DataSet, Split
from fedhpro_flwr.data.hold_out import hold_out
from fedhpro_flwr.data.registry import DataSource, data_set


@data_set("digits", uses=())
def digits(source: DataSource) -> DataSet:
    """The digits as uint8 images [N, 1, 8, 8]; `test_share` and `split_seed` split the test part off."""
    from sklearn.datasets import load_digits  # slow to import

    pixels, labels = load_digits(return_X_y=True)  # [1797, 64] floats 0..16
    images = torch.from_numpy(np.rint(pixels * 255 / 16).astype(np.uint8)).view(-1, 1, 8, 8)
    targets = torch.from_numpy(labels.astype(np.int64))
    train, test = (torch.from_numpy(ids) for ids in hold_out(targets.numpy(), source.test_share, source.split_seed))
    return DataSet(
        name="digits",
        train=Split(images[train], targets[train]),
        test=Split(images[test], targets[test]),
        class_names=tuple(str(digit) for digit in range(10)),
        # Of all 1,797 images scaled to [0, 1]: published constants, not statistics of a client.
        mean=(0.3053,),
        std=(0.3759,),
    )
