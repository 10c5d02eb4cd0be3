"""What a data set is asked for by (`DataSource`), and the table of loaders that a new one is added to."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from fedhpro_flwr.data.data_set import DataSet
from fedhpro_flwr.data.declared import declared_shape
from fedhpro_flwr.registry import Registry


@dataclass(frozen=True)
class DataSource:
    """Which data set to load, and from where.

    Args:
        name: a registered name, see `DATA_SETS`.
        root: folder that holds the public data sets; empty means the environment variable FEDHPRO_DATA_DIR.
        path: file or folder of the user's own data (`npz`, `image-folder`, `domain-folder`, `feature-folder`,
            `text-csv`).
        classes: names of the classes of own data, see `declared_classes`; empty leaves them to the data.
        input_shape: shape of a sample of own data, see `declared_shape`; empty leaves it to the data.
        download: fetch a public data set that is not in `root` yet.
        test_share: share of the samples split off as test data where a data set has no test part.
        validation_share: share of the training samples that takes the test part's place; 0 leaves the test part.
        split_seed: seed of these splits and of `train_limit`'s choice.
        train_limit: keep this many training samples, chosen at random; 0 keeps all.
        domains: names of the domains, separated by commas, where a data set lets one choose; empty means its default.
        image_size: height and width that images are resized to; 0 keeps them, or is the data set's default.
        text_length: L, tokens kept of a text.
        vocabulary: token ids of the hashing tokenizer, PADDING included.
        tokenizer: `hashing`, or the folder of a Hugging Face tokenizer.
        weights: file or folder of the frozen encoder, for data sets whose samples are its features.

    Raises:
        ValueError: `test_share` not in (0, 1), `validation_share` not in [0, 1), a negative `train_limit`, `split_seed`
            or `image_size`, fewer than one token or than two token ids.
    """

    name: str
    root: str = ""
    path: str = ""
    classes: str = ""
    input_shape: str = ""
    download: bool = False
    test_share: float = 0.2
    validation_share: float = 0.0
    split_seed: int = 0
    train_limit: int = 0
    domains: str = ""
    image_size: int = 0
    text_length: int = 64
    vocabulary: int = 20_000
    tokenizer: str = "hashing"
    weights: str = ""

    def __post_init__(self) -> None:
        if not 0 < self.test_share < 1:
            raise ValueError(f"data.test-share = {self.test_share}: it must lie between 0 and 1, both excluded")
        if not 0 <= self.validation_share < 1:
            raise ValueError(
                f"data.validation-share = {self.validation_share}: it must lie between 0 and 1, 1 excluded"
            )
        if self.train_limit < 0:
            raise ValueError(f"data.train-limit = {self.train_limit}: it must be 0 (all samples) or larger")
        if self.split_seed < 0:
            raise ValueError(f"data.split-seed = {self.split_seed}: it must be 0 or larger")
        if self.image_size < 0:
            raise ValueError(f"data.image-size = {self.image_size}: it must be 0 (as they are) or larger")
        if self.text_length < 1:
            raise ValueError(f"data.text-length = {self.text_length}: it must be 1 or larger")
        if self.vocabulary < 2:
            raise ValueError(f"data.vocabulary = {self.vocabulary}: it must be 2 or larger")

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

    def refuse_other_shape(self, shape: tuple[int, ...]) -> None:
        """Check that samples have the declared shape, where one is declared.

        Raises:
            ValueError: they have not.
        """
        if self.input_shape and shape != declared_shape(self.input_shape):
            found = "x".join(map(str, shape))
            raise ValueError(
                f"{self.path} holds samples of shape {found}, but data.input-shape = {self.input_shape!r}; "
                "correct one of them"
            )


Loader = Callable[[DataSource], DataSet]

Option = Literal[
    "path", "domains", "image_size", "weights", "classes", "input_shape", "text_length", "vocabulary", "tokenizer"
]
OPTIONS: tuple[Option, ...] = get_args(Option)
TEXT_OPTIONS: tuple[Option, ...] = ("text_length", "vocabulary", "tokenizer")

DATA_SETS: Registry[Loader] = Registry("data.name")
USES: dict[str, frozenset[Option]] = {}  # for the data sets that say so; others may use every option


def data_set(name: str, *, uses: tuple[Option, ...] | None = None) -> Callable[[Loader], Loader]:
    """Decorator: the loader is the data set `name`.

    Args:
        name: the value of `data.name` that chooses it.
        uses: which of OPTIONS it reads, so that the others can be refused; None means that it may read all of them.

    Raises:
        ValueError: the name is taken.
    """

    def add(loader: Loader) -> Loader:
        DATA_SETS.register(name)(loader)
        if uses is not None:
            USES[name] = frozenset(uses)
        return loader

    return add


def refuse_unused(source: DataSource) -> None:
    """Check that no option has another value than its default which the data set `source.name` would ignore.

    Raises:
        ValueError: one is set.
    """
    for option in OPTIONS:
        value: str | int = getattr(source, option)
        if value != getattr(DataSource, option) and option not in USES.get(source.name, OPTIONS):
            key = option.replace("_", "-")
            raise ValueError(f"data.{key} = {value!r}: data set {source.name!r} does not use it; leave it out")
