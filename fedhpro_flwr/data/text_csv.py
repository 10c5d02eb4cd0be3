"""`text-csv`: the user's own texts in a .csv file, or in a folder as train.csv and test.csv.

    label,text
    spam,"Win, now!"

The header names the columns, in any order; further columns are ignored. If there is no test.csv, a test part is
split off. If the classes are declared, there may be a test.csv alone. The token ids are kept beside the file.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import torch

from fedhpro_flwr.data.csv_rows import Row, csv_rows
from fedhpro_flwr.data.data_set import Split
from fedhpro_flwr.data.declared import class_name, declared_classes
from fedhpro_flwr.data.kept_tokens import kept_tokens
from fedhpro_flwr.data.own_format import OwnSamples, own_format, own_path
from fedhpro_flwr.data.registry import TEXT_OPTIONS, DataSource

COLUMNS = ("label", "text")


class Labelled(NamedTuple):
    """A text, its label as it is written, and the row that both come from."""

    row: Row
    label: str
    text: str


@own_format("text-csv", suffix=".csv", uses=TEXT_OPTIONS)
def text_csv(source: DataSource) -> OwnSamples:
    """Texts as tokens [L] from `path`.

    Labels are names of declared classes. If none are declared, labels that are all whole numbers are the class ids
    0, 1, 2, ... without a gap; anything else is a class name, and the names are sorted.

    Raises:
        FileNotFoundError: the file, or the folder's train.csv, is missing.
        ValueError: no header, a row that does not fit it, an empty or undeclared label or, if none are declared, fewer
            than two labels or a test label that no training row has; or a tokenizer that cannot be used.
    """
    path = own_path(source)
    file, test_file = (path / "train.csv", path / "test.csv") if path.is_dir() else (path, None)
    class_names = declared_classes(source.classes)
    train = test = None
    if file.exists():
        labelled = _read(file)
        class_names = class_names or _class_names(file, {label for _, label, _ in labelled})
        train, vocabulary = _split(file, labelled, class_names, source)
    elif not class_names or test_file is None or not test_file.exists():
        raise FileNotFoundError(f"data.path = {str(path)!r} is a folder without train.csv; put that file into it")
    if test_file is not None and test_file.exists():
        test, vocabulary = _split(test_file, _read(test_file), class_names, source)
    return OwnSamples(train, test, class_names, vocabulary)


def _read(file: Path) -> list[Labelled]:
    rows = csv_rows(file)
    first = next(rows, None)
    header = [name.strip() for name in first.fields] if first else []
    if any(header.count(name) != 1 for name in COLUMNS):
        found = ", ".join(header)[:80] or "nothing"
        raise ValueError(f"{file}: the first line must name the columns label and text once each, it holds {found}")
    label, text = (header.index(name) for name in COLUMNS)
    labelled = []
    for row in rows:
        if len(row.fields) != len(header):
            raise row.error(
                f"the header has {len(header)} columns, the row {len(row.fields)}; quote texts that hold commas"
            )
        labelled.append(Labelled(row, class_name(row.fields[label].strip()), row.fields[text]))
        if not labelled[-1].label:
            raise row.error("the label is empty; name a class or delete the line")
    if not labelled:
        raise ValueError(f"{file} has no line below its header; put one line a text into it")
    return labelled


def _class_names(file: Path, labels: set[str]) -> tuple[str, ...]:
    if len(labels) < 2:
        raise ValueError(f"{file}: every label is {min(labels)!r}, at least two classes are needed")
    if not all(label.isascii() and label.isdigit() for label in labels):
        return tuple(sorted(labels))
    numbers = tuple(str(number) for number in range(len(labels)))
    missing = next((number for number in numbers if number not in labels), None)
    if missing is not None:
        raise ValueError(
            f"{file}: labels that are whole numbers must run from 0 without a gap, there is no {missing}; "
            "number them anew, or declare them in data.classes"
        )
    return numbers


def _split(file: Path, labelled: list[Labelled], class_names: tuple[str, ...], source: DataSource) -> tuple[Split, int]:
    ids = {name: c for c, name in enumerate(class_names)}
    for row, label, _ in labelled:
        if label not in ids:
            if source.classes:
                raise row.error(f"the label {label!r} is none of data.classes; correct one of them")
            raise row.error(f"no training text has the label {label!r}; add some or delete the line")
    tokens, vocabulary = kept_tokens([text for _, _, text in labelled], source, file)
    labels = [ids[label] for _, label, _ in labelled]
    return Split(tokens, torch.tensor(labels, dtype=torch.int64)), vocabulary
