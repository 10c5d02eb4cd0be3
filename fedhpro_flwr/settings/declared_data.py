"""What the settings declare of the data: all that a model must know of it, for runs whose server sees no data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from fedhpro_flwr.data import DataSource, PartitionPlan
from fedhpro_flwr.data.declared import declared_classes, declared_shape
from fedhpro_flwr.data.own_format import own_normalisation
from fedhpro_flwr.data.tokens import tokenize
from fedhpro_flwr.settings.flat_keys import ConfigError

TEXT = "text-csv"  # the format whose samples have the shape that data.text-length gives
OF_ONE_DATA_SET = ("data.validation-share", "data.train-limit", "partition.imbalance")  # need one that is divided


class ShapedData(Protocol):
    """What a model must know of the data. A `DataSet` has it, and so has `DeclaredData`."""

    @property
    def class_names(self) -> tuple[str, ...]:
        """One name a class id."""

    @property
    def num_classes(self) -> int:
        """C."""

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one sample: (ch, H, W), (F,) or (L,)."""

    @property
    def vocabulary(self) -> int:
        """Of text, how many token ids there are; 0 for anything else."""

    @property
    def mean(self) -> tuple[float, ...]:
        """Normalisation per channel."""

    @property
    def std(self) -> tuple[float, ...]:
        """Normalisation per channel."""

    @property
    def has_float_images(self) -> bool:
        """Whether samples are images of floats, in [0, 1]."""


@dataclass(frozen=True)
class DeclaredData:
    """What a model must know of the data, from the settings alone."""

    class_names: tuple[str, ...]
    input_shape: tuple[int, ...]
    vocabulary: int = 0

    @property
    def num_classes(self) -> int:
        """C."""
        return len(self.class_names)

    @property
    def mean(self) -> tuple[float, ...]:
        """The mean that own data is normalised by."""
        return own_normalisation(self.input_shape)[0]

    @property
    def std(self) -> tuple[float, ...]:
        """The std that own data is normalised by."""
        return own_normalisation(self.input_shape)[1]

    @property
    def has_float_images(self) -> bool:
        """No: pictures are read as bytes, and each client of a run may have either kind in an .npz."""
        return False

    @classmethod
    def of(cls, source: DataSource) -> DeclaredData:
        """From `data.classes` and `data.input-shape`; for text from the tokenizer's settings.

        Raises:
            FileNotFoundError, ValueError: the tokenizer's folder is missing or cannot be used.
        """
        names = declared_classes(source.classes)
        if source.name == TEXT:
            return cls(names, (source.text_length,), tokenize([""], source)[1])
        return cls(names, declared_shape(source.input_shape))


def refuse_undeclared(data: DataSource, partition: PartitionPlan) -> None:
    """Check the form of what is declared, and that it is declared if only the clients know the data.

    Raises:
        ConfigError: a wrong form, nothing declared with `partition.scheme = "nodes"`, or settings that contradict it.
    """
    names, shape = declared_classes(data.classes), declared_shape(data.input_shape)
    if len(shape) == 3 and data.image_size and shape[1:] != (data.image_size, data.image_size):
        raise ConfigError(
            f"data.input-shape = {data.input_shape!r}, but data.image-size = {data.image_size} is what pictures are "
            "resized to; make them equal"
        )
    if not partition.at_nodes:
        return
    if not names:
        raise ConfigError(
            "partition.scheme = 'nodes' needs data.classes: a client may have any of them, so no client's data names "
            "them all; write 'cat, dog, fox', or '10' for classes 0 to 9"
        )
    if not shape and data.name != TEXT:
        raise ConfigError(
            "partition.scheme = 'nodes' needs data.input-shape, for the server has no sample to see it on; "
            "write '3x32x32', or '64' for vectors"
        )
    for key in OF_ONE_DATA_SET:
        section, default = (data, DataSource()) if key.startswith("data.") else (partition, PartitionPlan())
        name = key.partition(".")[2].replace("-", "_")
        if (value := getattr(section, name)) != getattr(default, name):
            raise ConfigError(
                f"{key} = {value}: with partition.scheme = 'nodes' every client has its own data as it is; leave it out"
            )
