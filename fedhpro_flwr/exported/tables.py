"""Samples to be predicted out of .npz and .csv files, with their labels where the file has them.

x or images, and y or labels            .npz; also the test part of a file that a run takes (x_test, y_test, ...)
text, and label                         .csv with a header, for a model of texts
numbers, and label                      .csv for a model of vectors; without a header every column is a number, and the
                                        names of a header are no numbers unless one of them is label
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fedhpro_flwr.data.csv_rows import Row, csv_rows
from fedhpro_flwr.data.npz import DAMAGE, stored_array
from fedhpro_flwr.exported.description import ModelDescription
from fedhpro_flwr.exported.model import ExportedModel
from fedhpro_flwr.exported.samples import of_array

# Samples, and their labels, which may be missing; of several that a file has the first counts.
ARRAYS = (("x", "y"), ("x", "labels"), ("images", "labels"), ("x_test", "y_test"), ("test_images", "test_labels"))
TEXT, LABEL = "text", "label"
LARGEST = torch.finfo(torch.float32).max


@dataclass(frozen=True, eq=False)
class Table:
    """The samples of one file."""

    names: Sequence[str]  # [N] "file:17", the row of a .npz from 0, the line of a .csv from 1
    inputs: Tensor  # [N, ...] as the model takes them
    labels: Tensor | None  # [N] class ids; None where the file has none


def of_npz(file: Path, described: ModelDescription) -> Table:
    """The samples of a .npz file.

    Raises:
        ValueError: it is damaged, holds no samples, others than the model takes, or labels that are no class ids.
    """
    try:
        archive = np.load(file, allow_pickle=False)
        if not isinstance(archive, np.lib.npyio.NpzFile):
            raise ValueError("it is a single array")
        with archive:
            there = set(archive.files)
            pairs = [pair for pair in ARRAYS if pair[0] in there]
            if not pairs:
                wanted = " or ".join(dict.fromkeys(name for name, _ in ARRAYS))
                raise ValueError(f"it holds {', '.join(sorted(there)) or 'nothing'}, an array {wanted} is needed")
            name, label = next((pair for pair in pairs if pair[1] in there), pairs[0])
            samples = stored_array(archive, name)
            labels = stored_array(archive, label) if label in there else None
        inputs = of_array(samples, described)
        return Table([f"{file}:{i}" for i in range(len(inputs))], inputs, _ids(labels, len(inputs), described))
    except DAMAGE as error:
        raise ValueError(f"{file} is damaged, truncated or no .npz file ({error})") from error
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from error


def _ids(labels: npt.NDArray[np.generic] | None, count: int, described: ModelDescription) -> Tensor | None:
    if labels is None:
        return None
    ids = labels[:, 0] if labels.ndim == 2 and labels.shape[1] == 1 else labels
    classes = len(described.class_names)
    if ids.shape != (count,) or not np.issubdtype(ids.dtype, np.integer):
        raise ValueError(f"its labels must be {count} whole numbers, they are {labels.dtype} {list(labels.shape)}")
    if count and not (ids.min() >= 0 and ids.max() < classes):
        raise ValueError(f"its labels must lie in 0 to {classes - 1}, the model's classes")
    return torch.from_numpy(ids.astype(np.int64))


def of_csv(file: Path, model: ExportedModel) -> Table:
    """The rows of a .csv file: texts, or vectors.

    Raises:
        ValueError: the model takes images, there is no header where one is needed, a row that does not fit, a label
            that is no class, or no row at all.
    """
    described = model.description
    if described.input_kind not in ("text", "vectors"):
        raise ValueError(f"{file}: the model takes {described.takes}, no rows of a .csv file")
    rows = list(csv_rows(file))
    is_text = described.input_kind == "text"
    columns = [name.strip() for name in rows[0].fields] if rows else []
    has_header = is_text or (bool(rows) and _is_header(rows[0], columns))
    body = rows[1:] if has_header else rows
    if is_text and columns.count(TEXT) != 1:
        raise ValueError(f"{file}: the first line must name the column text, it holds {', '.join(columns)[:80]}")
    if not body:
        raise ValueError(f"{file} holds no row{' below its header' if has_header else ''}")
    label = columns.index(LABEL) if has_header and LABEL in columns else None
    for row in body:
        if len(row.fields) != len(columns):
            raise row.error(f"the first line has {len(columns)} columns, the row {len(row.fields)}")
    labels = None if label is None else torch.tensor([_label(row, row.fields[label], described) for row in body])
    names = [f"{file}:{row.line}" for row in body]
    if is_text:
        place = columns.index(TEXT)
        return Table(names, model.inputs([row.fields[place] for row in body]), labels)
    return Table(names, torch.tensor([_numbers(row, label, described) for row in body]), labels)


def _is_header(first: Row, columns: Sequence[str]) -> bool:
    """Whether the first row of a table of numbers names its columns.

    Raises:
        ValueError: it may be either: a row with a value missing must not be taken for names and vanish.
    """
    if LABEL in columns:
        return True
    wrong = next((name for name in columns if not _is_number(name)), None)
    if wrong is not None and (not any(columns) or any(_is_number(name) for name in columns)):
        raise first.error(f"{wrong!r} is no number, and the row names no columns; correct it, or begin with a header")
    return wrong is not None


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _label(row: Row, written: str, described: ModelDescription) -> int:
    found = described.label(written.strip())
    if found is None:
        raise row.error(f"the label {written!r} is none of the model's classes, {', '.join(described.class_names)}")
    return found


def _numbers(row: Row, label: int | None, described: ModelDescription) -> list[float]:
    fields = [field for column, field in enumerate(row.fields) if column != label]
    if len(fields) != described.input_shape[0]:
        raise row.error(f"{len(fields)} numbers, the model takes {described.takes}")
    wrong = next((field for field in fields if not _is_number(field) or not abs(float(field)) <= LARGEST), None)
    if wrong is not None:
        raise row.error(f"{wrong!r} is no finite number of 32 bits")
    return [float(field) for field in fields]
