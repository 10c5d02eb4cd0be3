"""Reads what a command line wants predicted, batch by batch: picture files, folders of them, .npz and .csv files."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from torch import Tensor

from fedhpro_flwr.data.pictures import open_pictures
from fedhpro_flwr.exported.description import ModelDescription
from fedhpro_flwr.exported.model import ExportedModel
from fedhpro_flwr.exported.samples import of_pixels, pixels_of, takes_pictures
from fedhpro_flwr.exported.tables import NamedSamples, of_csv, of_npz
from fedhpro_flwr.settings.flat_keys import ConfigError

Refuse = Callable[[str], None]


def refuse_missing(paths: Sequence[Path]) -> None:
    """Check that everything that was named exists, before time is spent.

    Raises:
        ConfigError: something does not exist.
    """
    for path in paths:
        if not path.exists():
            raise ConfigError(f"{path} does not exist; name pictures, folders of pictures, .npz or .csv files")


def batches(paths: Sequence[Path], model: ExportedModel, batch_size: int, refuse: Refuse) -> Iterator[NamedSamples]:
    """All samples in the order in which they are named; successive pictures share batches.

    Args:
        paths: what was named; all of them exist.
        model: that is to predict.
        batch_size: samples at a time.
        refuse: gets a sentence for everything that the model cannot take; the rest is predicted.
    """
    pictures: list[Path] = []
    for path in paths:
        if path.suffix.lower() not in (".npz", ".csv"):
            pictures.append(path)
            continue
        yield from _pictures(pictures, model, batch_size, refuse)
        pictures = []
        try:
            yield from _table(path, model, batch_size)
        except (ValueError, OSError) as error:
            refuse(str(error))
    yield from _pictures(pictures, model, batch_size, refuse)


def _table(path: Path, model: ExportedModel, batch_size: int) -> Iterator[NamedSamples]:
    """The samples of one file, all of them read before the first is predicted."""
    table = of_npz(path, model.description) if path.suffix.lower() == ".npz" else of_csv(path, model)
    for start in range(0, len(table.names), batch_size):
        part = slice(start, start + batch_size)
        labels = None if table.labels is None else table.labels[part]
        yield NamedSamples(table.names[part], table.inputs[part], labels)


def _pictures(paths: Sequence[Path], model: ExportedModel, batch_size: int, refuse: Refuse) -> Iterator[NamedSamples]:
    """Pictures, decoded a batch at a time, because a folder may hold more than fits into memory."""
    names: list[str] = []
    pixels: list[Tensor] = []
    for file in _files(paths, model.description, refuse):
        try:
            pixels.append(pixels_of(file, model.description, model.frozen))
        except (ValueError, OSError) as error:
            refuse(str(error))
            continue
        names.append(str(file))
        if len(names) == batch_size:
            yield NamedSamples(names, of_pixels(pixels, model.frozen))
            names, pixels = [], []
    if names:
        yield NamedSamples(names, of_pixels(pixels, model.frozen))


def _files(paths: Sequence[Path], described: ModelDescription, refuse: Refuse) -> Iterator[Path]:
    for path in paths:
        if not takes_pictures(described):
            accepted = {"text": ".csv", "vectors": ".npz and .csv"}.get(described.input_kind, ".npz")
            refuse(f"{path}: the model takes {described.takes}, out of {accepted} files")
        elif not path.is_dir():
            yield path
        else:
            with open_pictures(path) as found:
                if not found.names:
                    refuse(f"{path} holds no picture")
                elif found.others:
                    refuse(found.left_out())
                yield from (path / name for name in found.names)
