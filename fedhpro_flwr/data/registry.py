"""What a data set is asked for by (`DataSource`), and the table of loaders that a new one is added to."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from fedhpro_flwr.data.data_set import DataSet
from fedhpro_flwr.registry import Registry


@dataclass(frozen=True)
class DataSource:
    """Which data set to load, and from where.

    Args:
        name: a registered name, see `DATA_SETS`.
        root: folder that holds the public data sets; empty means the environment variable FEDHPRO_DATA_DIR.
        path: file or folder of the user's own data (`npz`, `image-folder`).
        download: fetch a public data set that is not in `root` yet.
        test_share: share of the samples split off as test data where a data set has no test part.
        split_seed: seed of that split and of `train_limit`'s choice.
        train_limit: keep this many training samples, chosen at random; 0 keeps all.

    Raises:
        ValueError: `test_share` not in (0, 1), a negative `train_limit` or `split_seed`.
    """

    name: str
    root: str = ""
    path: str = ""
    download: bool = False
    test_share: float = 0.2
    split_seed: int = 0
    train_limit: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.test_share < 1:
            raise ValueError(f"data.test-share = {self.test_share}: it must lie between 0 and 1, both excluded")
        if self.train_limit < 0:
            raise ValueError(f"data.train-limit = {self.train_limit}: it must be 0 (all samples) or larger")
        if self.split_seed < 0:
            raise ValueError(f"data.split-seed = {self.split_seed}: it must be 0 or larger")

    def folder(self) -> Path:
        """The data folder, from `root` or FEDHPRO_DATA_DIR.

        Raises:
            FileNotFoundError: neither is set.
        """
        root = self.root or os.environ.get("FEDHPRO_DATA_DIR", "")
        if not root:
            raise FileNotFoundError(
                f"data set {self.name!r} needs a data folder: set data.root "
                "or the environment variable FEDHPRO_DATA_DIR"
            )
        return Path(root).expanduser()


Loader = Callable[[DataSource], DataSet]

DATA_SETS: Registry[Loader] = Registry("data.name")
data_set = DATA_SETS.register
