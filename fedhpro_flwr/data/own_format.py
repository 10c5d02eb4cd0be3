"""Formats of the user's own data: what a reader gives, and how it becomes a data set that a run divides.

A reader is a function `DataSource -> OwnSamples` under the decorator `@own_format("name")`. It is used in two ways: the
data at one place are divided among clients, or every node reads its own (fedhpro_flwr/client/node_data.py).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from logging import getLogger
from pathlib import Path

from fedhpro_flwr.data.data_set import DataSet, Split
from fedhpro_flwr.data.hold_out import held_out, hold_out, kept
from fedhpro_flwr.data.registry import DataSource, Option, data_set
from fedhpro_flwr.home_folder import expanded
from fedhpro_flwr.registry import Registry
from fedhpro_flwr.settings.flat_keys import ConfigError


@dataclass(frozen=True, eq=False)
class OwnSamples:
    """What was read.

    Args:
        train: the samples, or their training part; None if there is a test part alone, which will do at the server.
        test: the test part; None if the data has none.
        class_names: one name a class id; those that `data.classes` declares, if it declares any.
        vocabulary: of text, how many token ids there are; 0 for anything else.
    """

    train: Split | None
    test: Split | None
    class_names: tuple[str, ...]
    vocabulary: int = 0

    def data_set(self, source: DataSource) -> DataSet:
        """The data set of one place, with `data.test-share` split off for testing if it has no test part.

        Raises:
            ValueError: there is a test part alone, or none can be split off; the samples of both parts have different
                shapes, or another shape than `data.input-shape` declares; or a class that `data.classes` does not
                declare has no training sample.
        """
        train, test = self.training(source.path), self.test
        if not source.classes:
            self._refuse_unseen_classes(source.path, train)
            self._warn_of_alike_classes(source.path)
        if test is None:
            train, test = map(train.subset, hold_out(train.labels.numpy(), source.test_share, source.split_seed))
        mean, std = own_normalisation(tuple(train.inputs.shape[1:]))
        try:
            found = DataSet(source.name, train, test, self.class_names, mean, std, vocabulary=self.vocabulary)
        except ValueError as error:
            raise ValueError(f"{source.path}: {error}") from error
        source.refuse_other_shape(found.input_shape)
        return found

    def training(self, place: str) -> Split:
        """The samples to train on, of data that lies at `place`.

        Raises:
            ValueError: there are none.
        """
        if self.train is None:
            raise ValueError(f"{place} holds a test part alone; add samples to train on")
        return self.train

    def _refuse_unseen_classes(self, place: str, train: Split) -> None:
        """Without declared classes each one needs a training sample: a gap between the labels is a mistake."""
        counts = train.labels.bincount(minlength=len(self.class_names))
        if int(counts.min()) == 0:
            raise ValueError(
                f"{place}: no training sample has the label {self.class_names[int(counts.argmin())]}, of "
                f"{len(counts)} classes; add some, number the labels anew without a gap, or declare all classes in "
                "data.classes"
            )

    def _warn_of_alike_classes(self, place: str) -> None:
        """Warn of undeclared classes that differ by capital letters or spaces alone, and may be one."""
        seen: dict[str, str] = {}
        for name in self.class_names:
            alike = seen.setdefault(name.casefold().strip(), name)
            if alike != name:
                getLogger("flwr").warning(
                    "%s: the classes %r and %r differ by capital letters or spaces alone and are trained as two; if "
                    "they are one, rename one of them", place, alike, name
                )  # fmt: skip

    def parts(self, source: DataSource) -> tuple[Split, Split | None]:
        """The training and the test part of one client; no test part if it has too few samples to split one off.

        Raises:
            ValueError: there is a test part alone, or samples have another shape than `data.input-shape` declares.
        """
        train, test = self.training(source.path), self.test
        if test is None and len(ids := held_out(train.labels.numpy(), source.test_share, source.split_seed)):
            train, test = train.subset(kept(train.labels.numpy(), ids)), train.subset(ids)
        for split in (train, test):
            if split is not None:
                source.refuse_other_shape(tuple(split.inputs.shape[1:]))
        return train, test


OwnReader = Callable[[DataSource], OwnSamples]

OWN_FORMATS: Registry[OwnReader] = Registry("data.name")
SUFFIXES: dict[str, str] = {}  # by the format's name: of a single file that holds such data


def own_format(name: str, *, suffix: str, uses: tuple[Option, ...] = ()) -> Callable[[OwnReader], OwnReader]:
    """Decorator: makes the reader's format the data set `name`, and one that data at the nodes may have.

    Args:
        name: the value of `data.name` that chooses it.
        suffix: of a file that holds such data.
        uses: which optional settings it reads beside the declared classes and shape.

    Raises:
        ConfigError: the name is taken.
    """

    def add(reader: OwnReader) -> OwnReader:
        data_set(name, uses=(*uses, "path", "classes", "input_shape"))(lambda source: reader(source).data_set(source))
        OWN_FORMATS.register(name)(reader)
        SUFFIXES[name] = suffix
        return reader

    return add


def own_reader(name: str) -> OwnReader:
    """The reader of `data.name`, for data that lies at the nodes.

    Raises:
        ConfigError: it is no format of own data; the message lists those there are.
    """
    if name not in OWN_FORMATS:
        instead = "; a node reads the folder of one domain, as an image-folder" if name == "domain-folder" else ""
        raise ConfigError(
            f"data.name = {name!r}: with partition.scheme = 'nodes' clients have data of their own, in one of the "
            f"formats {', '.join(sorted(OWN_FORMATS))}{instead}"
        )
    return OWN_FORMATS[name]


def own_path(source: DataSource) -> Path:
    """The file or folder `source.path`.

    Raises:
        ValueError: no path is given.
        FileNotFoundError: nothing is there.
    """
    if not source.path:
        raise ValueError(f"data.name = {source.name!r} needs data.path, the place of your data")
    path = expanded(source.path)
    if not path.exists():
        raise FileNotFoundError(f"data.path = {str(path)!r} does not exist; put your data there or correct the path")
    return path


def own_normalisation(shape: tuple[int, ...]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Fixed mean and std for samples of a shape: 0.5 for images, 0 and 1 for vectors and text.

    Nothing is computed from the samples: statistics over all clients' data would have to leave the clients.
    """
    if len(shape) == 1:
        return (0.0,), (1.0,)
    return (0.5,) * shape[0], (0.5,) * shape[0]
