"""Samples to be predicted from .npz and .csv files, with their labels if the file has them.

x or images, and y or labels            .npz; or the test part of a file that a run takes (x_test, y_test, ...)
text, and label                         .csv with a header, for a model of texts
numbers, and label                      .csv for a model of vectors; the first row is a header if one of
                                        its names is label, or none is a number
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
from fedhpro_flwr.data.npz import DAMAGE, open_npz, stored_array, warn_of_scale
from fedhpro_flwr.exported.description import ModelDescription
from fedhpro_flwr.exported.model import ExportedModel
from fedhpro_flwr.exported.samples import of_array
from fedhpro_flwr.listed import ten_of

# Names of arrays with samples to be predicted, each with the names that the array of its labels may have.
ARRAYS = {
    "x": ("y", "labels"),
    "images": ("labels", "y"),
    "x_test": ("y_test", "test_labels"),
    "test_images": ("test_labels", "y_test"),
}
TEST_ARRAYS = ("x_test", "test_images")  # if one of them is there, `images` are those that were trained on
TEXT, LABEL = "text", "label"
MISSING = frozenset({"", "na", "n/a", "#n/a", "<na>", "none", "null", "?", "-", ".", "missing"})  # not names of columns
SEPARATORS = {";": "semicolons", "\t": "tabs", "|": "bars", " ": "spaces"}
LARGEST = torch.finfo(torch.float32).max


@dataclass(frozen=True, eq=False)
class NamedSamples:
    """Samples as a model takes them, with names for people."""

    names: Sequence[str]  # [N] a picture's path, or "file:17": the row of a .npz from 0, the line of a .csv from 1
    inputs: Tensor  # [N, ...]
    labels: Tensor | None = None  # [N] class ids, if they are known


def of_npz(file: Path, described: ModelDescription) -> NamedSamples:
    """The samples of a .npz file.

    Raises:
        ValueError: it is damaged, or holds no samples that the model takes, or labels that are no class ids.
    """
    with open_npz(file) as archive:
        try:
            name, label = chosen_arrays(archive.files)
            samples = stored_array(archive, name)
            inputs = of_array(samples, described)
            labels = _ids(stored_array(archive, label), len(inputs), described) if label else None
            warn_of_scale(f"{file}: {name}", samples)
        except DAMAGE as error:
            raise ValueError(f"{file} is damaged, truncated or no .npz file ({error})") from error
        except ValueError as error:
            raise ValueError(f"{file}: {error}") from error
    return NamedSamples([f"{file}:{i}" for i in range(len(inputs))], inputs, labels)


def chosen_arrays(there: Sequence[str]) -> tuple[str, str]:
    """Which arrays of a .npz file are the samples and their labels; "" for labels if it holds none.

    If the file is one that a run can take, its test part is predicted, and never its training part.

    Raises:
        ValueError: there are no samples, several that may be meant, or two arrays of labels for them.
    """
    found = [name for name in ARRAYS if name in there]
    if any(name in there for name in TEST_ARRAYS):
        found = [name for name in found if name != "images"]
    if not found:
        wanted = " or ".join(ARRAYS)
        raise ValueError(f"it holds {ten_of(sorted(there)) or 'nothing'}, an array {wanted} is needed")
    if len(found) > 1:
        raise ValueError(f"it holds {' and '.join(found)}, and which is to be predicted is not said; leave one of them")
    labels = [name for name in ARRAYS[found[0]] if name in there]
    if len(labels) > 1:
        raise ValueError(f"it holds {' and '.join(labels)}, either may label {found[0]}; leave one of them")
    return found[0], labels[0] if labels else ""


def _ids(labels: npt.NDArray[np.generic], count: int, described: ModelDescription) -> Tensor:
    ids = labels[:, 0] if labels.ndim == 2 and labels.shape[1] == 1 else labels
    classes = len(described.class_names)
    if ids.shape != (count,) or not np.issubdtype(ids.dtype, np.integer):
        raise ValueError(f"its labels must be {count} whole numbers, they are {labels.dtype} {list(labels.shape)}")
    whole = ids.astype(np.int64)  # what is too large for it becomes negative
    if count and not (whole.min() >= 0 and whole.max() < classes):
        raise ValueError(f"its labels must lie in 0 to {classes - 1}, the model's classes")
    return torch.from_numpy(whole)


def of_csv(file: Path, model: ExportedModel) -> NamedSamples:
    """The rows of a .csv file: texts, or vectors.

    Raises:
        ValueError: the model takes images, a header that is needed is missing, a row does not fit, a label is no class,
            or there is no row at all.
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
        raise ValueError(
            f"{file}: the first line must name the column text, it holds {', '.join(columns)[:80] or 'nothing'}"
        )
    if not is_text:
        _refuse_other_separator(rows, described)
    if not body:
        raise ValueError(f"{file} holds no row{' below its header' if has_header else ''}")
    if has_header and columns.count(LABEL) > 1:
        raise ValueError(f"{file}: the first line names two columns {LABEL}, leave one of them")
    label = columns.index(LABEL) if has_header and LABEL in columns else None
    for row in body:
        if len(row.fields) != len(columns):
            raise row.error(f"the first line has {len(columns)} columns, the row {len(row.fields)}")
    labels = None if label is None else _labels(body, label, described)
    names = [f"{file}:{row.line}" for row in body]
    if is_text:
        place = columns.index(TEXT)
        return NamedSamples(names, model.inputs([row.fields[place] for row in body]), labels)
    return NamedSamples(names, torch.tensor([_numbers(row, label, described) for row in body]), labels)


def _is_header(first: Row, columns: Sequence[str]) -> bool:
    """Whether the first row of a table of numbers names its columns.

    Raises:
        ValueError: it may be names or numbers. A row of numbers with one missing must not be taken for names and lost.
    """
    if LABEL in columns:
        return True
    wrong = next((name for name in columns if not _is_number(name)), None)
    all_missing = all(name.casefold() in MISSING for name in columns)
    if wrong is not None and (all_missing or any(_is_number(name) for name in columns)):
        raise first.error(f"{wrong!r} is no number, and the row names no columns; correct it, or begin with a header")
    return wrong is not None


def _refuse_other_separator(rows: Sequence[Row], described: ModelDescription) -> None:
    """Check the separator by the first two rows, as the first may be a header.

    Raises:
        ValueError: a row is a single field, but has as many as the model takes if it is split by another separator.
    """
    wanted = described.input_shape[0]
    for row in rows[:2]:
        for separator, name in SEPARATORS.items():
            parts = len(row.fields[0].strip().split(separator))
            if len(row.fields) == 1 and wanted > 1 and parts in (wanted, wanted + 1):  # a label may be among them
                raise row.error(f"its values are parted by {name}, a .csv file of numbers needs commas")


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _labels(body: Sequence[Row], column: int, described: ModelDescription) -> Tensor:
    """Class ids [N], from a column that holds only names, or else only ids.

    Read row by row, a class that is called "1" and the class id 1 could not be told apart.

    Raises:
        ValueError: a label is neither, or some are names and others ids.
    """
    written = [row.fields[column].strip() for row in body]
    for read in (described.named, described.numbered):  # a column that can be read as both holds names
        found = [read(label) for label in written]
        if None not in found:
            return torch.tensor(found)
    names = [described.named(label) is not None for label in written]
    ids = [described.numbered(label) is not None for label in written]
    neither = next((i for i in range(len(body)) if not names[i] and not ids[i]), None)
    if neither is not None:
        classes = ten_of(described.class_names)
        raise body[neither].error(f"the label {written[neither]!r} is none of the model's classes, {classes}")
    first, turn = sorted((names.index(False), ids.index(False)))  # all before `turn` fits one reading
    kinds = ("a class id", "a class's name") if names[turn] else ("a class's name", "a class id")
    raise body[turn].error(
        f"the label {written[turn]!r} is {kinds[1]}, but {written[first]!r} in line {body[first].line} {kinds[0]}; "
        "write all labels as names, or all as ids"
    )


def _numbers(row: Row, label: int | None, described: ModelDescription) -> list[float]:
    fields = [field for column, field in enumerate(row.fields) if column != label]
    if len(fields) != described.input_shape[0]:
        raise row.error(f"{len(fields)} numbers, the model takes {described.takes}")
    wrong = next((field for field in fields if not _is_number(field) or not abs(float(field)) <= LARGEST), None)
    if wrong is not None:
        raise row.error(f"{wrong!r} is no finite number of 32 bits")
    return [float(field) for field in fields]
