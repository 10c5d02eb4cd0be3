"""The settings that a data set is loaded by (`DataSource`), and the table of loaders, to which a new one is added."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal, get_args

from pydantic import Field

from fedhpro_flwr.data.data_set import DataSet
from fedhpro_flwr.data.declared import declared_shape
from fedhpro_flwr.home_folder import expanded
from fedhpro_flwr.registry import Registry
from fedhpro_flwr.settings.flat_keys import ConfigError
from fedhpro_flwr.settings.section import Count, CountOrZero, Pixels, Section, TextOrCount


class DataSource(Section):
    """The settings `data.*`: which samples exist, and where their files lie.

    Args:
        name: a registered name, see `DATA_SETS`.
        root: folder that holds the public data sets; empty means the environment variable FEDHPRO_DATA_DIR.
        path: file or folder of the user's own data (`npz`, `image-folder`, `domain-folder`, `feature-folder`,
            `text-csv`).
        classes: names of the classes of own data, see `declared_classes`; empty leaves them to the data.
        input_shape: shape of a sample of own data, see `declared_shape`; empty leaves it to the data.
        download: fetch a public data set that is not in `root` yet.
        test_share: share of the samples split off as test data if a data set has no test part.
        validation_share: share of the training samples that takes the test part's place; 0 leaves the test part.
        split_seed: seed of these splits and of `train_limit`'s choice.
        train_limit: keep this many training samples, chosen at random; 0 keeps all.
        domains: names of the domains, separated by commas, if a data set lets one choose; empty means its default.
        image_size: height and width that images are resized to; 0 keeps them, or is the data set's default.
        text_length: L, tokens kept of a text.
        vocabulary: token ids of the hashing tokenizer, PADDING included.
        tokenizer: `hashing`, or the folder of a Hugging Face tokenizer.
        weights: file or folder of the frozen encoder, for data sets whose samples are its features.
    """

    name: str = "digits"
    root: str = ""
    path: str = ""
    classes: TextOrCount = ""
    input_shape: TextOrCount = ""
    download: bool = False
    test_share: Annotated[float, Field(gt=0, lt=1)] = 0.2
    validation_share: Annotated[float, Field(ge=0, lt=1)] = 0.0
    split_seed: CountOrZero = 0
    train_limit: CountOrZero = 0
    domains: str = ""
    image_size: Pixels = 0
    text_length: Count = 64
    vocabulary: Annotated[int, Field(ge=2, le=2**31)] = 20_000
    tokenizer: str = "hashing"
    weights: str = ""

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
        return expanded(root)

    def refuse_other_shape(self, shape: tuple[int, ...]) -> None:
        """Check that samples have the declared shape, if one is declared.

        Raises:
            ValueError: they have another one.
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
USES: dict[str, frozenset[Option]] = {}  # of the data sets that say what they use; others may use every option


def data_set(name: str, *, uses: tuple[Option, ...] | None = None) -> Callable[[Loader], Loader]:
    """Decorator: the loader is the data set `name`.

    Args:
        name: the value of `data.name` that chooses it.
        uses: which of OPTIONS it reads, so that the others can be refused; None means that it may read all of them.

    Raises:
        ConfigError: the name is taken.
    """

    def add(loader: Loader) -> Loader:
        DATA_SETS.register(name)(loader)
        if uses is not None:
            USES[name] = frozenset(uses)
        return loader

    return add


def refuse_unused(source: DataSource) -> None:
    """Check that every option that the data set `source.name` would ignore has its default value.

    Raises:
        ConfigError: one is set.
    """
    for option in OPTIONS:
        value: str | int = getattr(source, option)
        if value != DataSource.model_fields[option].default and option not in USES.get(source.name, OPTIONS):
            key = option.replace("_", "-")
            raise ConfigError(f"data.{key} = {value!r}: data set {source.name!r} does not use it; leave it out")
