"""`ag-news`, `ag-news-part`: news in four classes (Zhang, Zhao, LeCun 2015), from the original .csv files.

    "3","Fears for T N pension after talks","Unions representing workers at Turner   Newall say ..."

Class 1..4, title, description. The collection has passed through a web page and lost the & of its numbered
entities; `clean` undoes what can be undone.
"""

from __future__ import annotations

import html
import re
from pathlib import Path

import torch

from fedhpro_flwr.data.csv_rows import Row, csv_rows
from fedhpro_flwr.data.data_set import DataSet, Split
from fedhpro_flwr.data.registry import TEXT_OPTIONS, DataSource, data_set
from fedhpro_flwr.data.tokens import tokenize

AG_NEWS_CLASSES = ("World", "Sports", "Business", "Sci/Tech")
ENTITY = re.compile(r" ?#(\d+);")  # the blank stands where the & was
TAG = re.compile(r"</?[A-Za-z]+(\s[^<>]*)?/?>")  # <b>, <A HREF="...">, but not the ticker symbol <TXN.N>


@data_set("ag-news", uses=TEXT_OPTIONS)
def ag_news(source: DataSource) -> DataSet:
    """120,000 + 7,600 news as tokens [L] from `root`/AG_NEWS/train.csv and test.csv.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: a row is not class, title, description, or the tokenizer cannot be used.
    """
    return _load(source, "train.csv")


@data_set("ag-news-part", uses=TEXT_OPTIONS)
def ag_news_part(source: DataSource) -> DataSet:
    """`ag-news` trained on whatever part of its training news lies in `root`/AG_NEWS/train_subset.csv.

    Raises:
        FileNotFoundError, ValueError: as `ag-news`.
    """
    return _load(source, "train_subset.csv")


def _load(source: DataSource, train_name: str) -> DataSet:
    folder = source.folder() / "AG_NEWS"
    files = (folder / train_name, folder / "test.csv")
    for file in files:
        if not file.is_file():
            raise FileNotFoundError(
                f"data set {source.name!r}: put {file.name} into {folder} (data.download = true cannot fetch it)"
            )
    (train, vocabulary), (test, _) = (_read(file, source) for file in files)
    return DataSet(source.name, train, test, AG_NEWS_CLASSES, vocabulary=vocabulary)


def _read(file: Path, source: DataSource) -> tuple[Split, int]:
    """The split and the number of token ids."""
    rows = [_label_and_text(row) for row in csv_rows(file)]
    if not rows:
        raise ValueError(f"{file} is empty; fetch it again")
    tokens, vocabulary = tokenize([text for _, text in rows], source)
    return Split(tokens, torch.tensor([label for label, _ in rows], dtype=torch.int64)), vocabulary


def _label_and_text(row: Row) -> tuple[int, str]:
    if len(row.fields) != 3:
        raise row.error(f"class, title and description are needed, the row has {len(row.fields)} columns")
    number, title, description = row.fields
    if number not in ("1", "2", "3", "4"):
        raise row.error(f"the class is {number!r}, allowed are 1, 2, 3 and 4")
    return int(number) - 1, clean(f"{title} {description}")


def clean(text: str) -> str:
    r"""One line of plain text: backslashes (once line breaks) and tags become blanks, entities characters.

    ` #39;` becomes an apostrophe, `#36;` a dollar, `&lt;b&gt;` a blank. An ampersand that became a blank ("T N") is
    lost, and a tag that was cut off at the end of a description stays. Several blanks become one.
    """
    text = text.replace("\\", " ")
    text = ENTITY.sub(lambda entity: html.unescape(f"&#{entity[1]};"), text)
    return " ".join(TAG.sub(" ", html.unescape(text)).split())
