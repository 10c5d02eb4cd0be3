"""Data sets, how they are divided among clients, and how batches are augmented.

A new data set is a function `DataSource -> DataSet` under the decorator `@data_set("name")`.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from fedhpro_flwr.data import digits, image_folder, own, torchvision_sets
from fedhpro_flwr.data.data_set import DataSet, Split
from fedhpro_flwr.data.long_tail import class_groups
from fedhpro_flwr.data.partition import Partition, PartitionPlan, partition, split_test
from fedhpro_flwr.data.registry import DATA_SETS, DataSource, Loader, data_set

__all__ = [
    "DATA_SETS",
    "DataSet",
    "DataSource",
    "Loader",
    "Partition",
    "PartitionPlan",
    "Split",
    "class_groups",
    "data_set",
    "digits",
    "image_folder",
    "load",
    "own",
    "partition",
    "split_test",
    "torchvision_sets",
]


def load(source: DataSource) -> DataSet:
    """Load the data set `source.name`, with `source.train_limit` applied to its training split.

    Raises:
        ValueError: an unknown name, or data that cannot be used.
        FileNotFoundError: a file is missing.
    """
    loader = DATA_SETS.find(source.name)
    loaded = loader(source)
    total = len(loaded.train)
    if source.train_limit == 0 or source.train_limit >= total:
        return loaded
    rng = np.random.default_rng(source.split_seed)
    # Sorted, so that the samples keep the order of the full set and only the choice is random.
    kept = np.sort(rng.choice(total, size=source.train_limit, replace=False))
    return replace(loaded, train=loaded.train.subset(torch.from_numpy(kept)))
