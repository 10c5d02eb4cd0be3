"""The user's own texts in .csv files."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from fedhpro_flwr.data import DataSource, load
from fedhpro_flwr.data.tokens import hash_words


def write(file: Path, content: str, encoding: str = "utf-8") -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content.encode(encoding))
    return file


def source_of(path: Path, **options: float) -> DataSource:
    return DataSource(name="text-csv", path=str(path), text_length=4, vocabulary=100, **options)


def hashed(*texts: str) -> torch.Tensor:
    return hash_words(texts, length=4, vocabulary=100)


def test_names_become_sorted_classes_and_a_test_part_is_split_off(tmp_path):
    rows = "".join(f'{name},"{name} number, {i}"\n' for i in range(4) for name in ("spam", "ham"))
    source = source_of(write(tmp_path / "mail.csv", "label,text\n" + rows), test_share=0.25)
    loaded, again = load(source), load(source)
    assert (loaded.class_names, len(loaded.train), len(loaded.test)) == (("ham", "spam"), 6, 2)
    assert (loaded.input_shape, loaded.vocabulary) == ((4,), 100)
    ham, spam = hashed("ham", "spam")[:, 0].tolist()
    for split in (loaded.train, loaded.test):
        assert split.inputs[:, 0].tolist() == [(ham, spam)[label] for label in split.labels]  # texts keep their labels
    assert sorted(loaded.test.labels.tolist()) == [0, 1]
    assert torch.equal(loaded.test.inputs, again.test.inputs)


def test_whole_numbers_are_class_ids(tmp_path):
    lines = "".join(f"{i % 11},text {i}\n" for i in range(22))
    loaded = load(source_of(write(tmp_path / "a.csv", "label,text\n" + lines), test_share=0.5))
    assert loaded.class_names == tuple(str(number) for number in range(11))  # 10 is behind 9, not behind 1
    assert sorted(loaded.train.labels.tolist()) == list(range(11))


def test_folder_column_order_further_columns_and_byte_order_mark(tmp_path):
    write(tmp_path / "train.csv", 'text, label ,when\r\n"one, two",b,1\r\n,a,2\r\n', "utf-8-sig")
    write(tmp_path / "test.csv", "label,text\na,three\n\na,four\n")
    loaded = load(source_of(tmp_path))
    assert loaded.class_names == ("a", "b")
    assert (loaded.train.labels.tolist(), loaded.test.labels.tolist()) == ([1, 0], [0, 0])
    assert torch.equal(loaded.train.inputs, hashed("one two", ""))
    assert torch.equal(loaded.test.inputs, hashed("three", "four"))


def test_a_folder_with_a_training_file_alone_is_split(tmp_path):
    write(tmp_path / "train.csv", "label,text\n" + "a,x\nb,y\n" * 4)
    loaded = load(source_of(tmp_path, test_share=0.25))
    assert (len(loaded.train), len(loaded.test)) == (6, 2)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", r"mine\.csv: the first line must name the columns label and text once each, it holds nothing"),
        ("spam,hello\n", "once each, it holds spam, hello"),
        ("label;text\na;b\n", "once each, it holds label;text"),
        ("label,text,text\na,b,c\n", "once each, it holds label, text, text"),
        ("label,text\n", "has no line below its header"),
        ("label,text\na,one\nb\n", r"mine\.csv, line 3: the header has 2 columns, the row 1"),
        ("label,text\na,one, two\n", r"line 2: the header has 2 columns, the row 3; quote texts that hold commas"),
        ("label,text\na,one\n ,two\n", r"line 3: the label is empty"),
        ("label,text\na,one\na,two\n", "every label is 'a', at least two classes are needed"),
        (
            "label,text\n1,one\n2,two\n",
            "without a gap, there is no 0; number them anew, or declare them in data.classes",
        ),
        ("label,text\n0,one\n2,two\n", "must run from 0 without a gap, there is no 1"),
        ('label,text\na,"one\nb,two\n', r"line 2: a quote is not closed"),
        ('label,text\na,"one" more\n', r"line 2: a quote is not closed or stands in the wrong place"),
        ("label,text\na,one\nb,two\n", "leaves no test sample"),
    ],
)
def test_refusals(content, message, tmp_path):
    with pytest.raises(ValueError, match=message) as caught:
        load(source_of(write(tmp_path / "mine.csv", content)))
    assert "\n" not in str(caught.value)


def test_another_encoding_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"latin\.csv is no UTF-8 text .*; save it as UTF-8"):
        load(source_of(write(tmp_path / "latin.csv", "label,text\na,caf\xe9\n", "latin-1")))


def test_a_label_of_the_test_file_alone_is_refused(tmp_path):
    write(tmp_path / "train.csv", "label,text\na,x\nb,y\n")
    write(tmp_path / "test.csv", "label,text\na,x\nc,y\n")
    with pytest.raises(ValueError, match=r"test\.csv, line 3: no training text has the label 'c'"):
        load(source_of(tmp_path))


def test_missing_places(tmp_path):
    with pytest.raises(ValueError, match=r"data\.name = 'text-csv' needs data\.path"):
        load(DataSource(name="text-csv"))
    with pytest.raises(FileNotFoundError, match="nowhere' does not exist"):
        load(source_of(tmp_path / "nowhere"))
    with pytest.raises(FileNotFoundError, match=r"is a folder without train\.csv"):
        load(source_of(tmp_path))


def test_a_text_may_be_longer_than_a_field_of_pythons_csv(tmp_path: Path) -> None:
    (tmp_path / "mails.csv").write_text("label,text\n" + 9 * "a,one\nb,two\n" + f'a,"{200_000 * "win "}"\n')
    found = load(DataSource(name="text-csv", path=str(tmp_path / "mails.csv"), text_length=4))
    assert len(found.train) + len(found.test) == 19
