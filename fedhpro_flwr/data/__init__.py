"""Data sets, how they are divided among clients, and how batches are augmented.

A new data set is a function `DataSource -> DataSet` under the decorator `@data_set("name")`.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from fedhpro_flwr.data import (  # noqa: F401  they register themselves
    ag_news,
    digit_domains,
    digits,
    domain_folder,
    feature_folder,
    ham10000,
    image_folder,
    mnist_m,
    npz,
    office_caltech,
    office_caltech_surf,
    sun397,
    svhn,
    syn,
    syn_rendered,
    text_csv,
    tiny_imagenet,
    torchvision_sets,
    usps,
)
from fedhpro_flwr.data.data_set import DataSet, Split
from fedhpro_flwr.data.partition import PartitionPlan
from fedhpro_flwr.data.registry import DATA_SETS, DataSource, data_set, refuse_unused
from fedhpro_flwr.data.validation import validation

__all__ = ["DATA_SETS", "DataSet", "DataSource", "PartitionPlan", "Split", "data_set", "load"]


def load(source: DataSource) -> DataSet:
    """Load the data set `source.name`, with `train_limit` applied to its training split, then `validation_share`.

    Raises:
        ValueError: an unknown name, a setting that the data set does not use, or data that cannot be used.
        FileNotFoundError: a file is missing.
    """
    loader = DATA_SETS.find(source.name)
    refuse_unused(source)
    loaded = loader(source)
    if not isinstance(loaded, DataSet):
        given = type(loaded).__name__
        raise ValueError(f"data.name = {source.name!r}: its loader gave {given}, it must give a DataSet")
    total = len(loaded.train)
    if 0 < source.train_limit < total:
        rng = np.random.default_rng(source.split_seed)
        # Sorted, so that the samples keep the order of the full set and only the choice is random.
        kept = np.sort(rng.choice(total, size=source.train_limit, replace=False))
        loaded = replace(loaded, train=loaded.train.subset(kept))
    return validation(loaded, source.validation_share, source.split_seed) if source.validation_share else loaded
