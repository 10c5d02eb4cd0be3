"""AG News: tiny files of the original form, refusals, and the real files where there are any."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from fedhpro_flwr.data import DataSource, load
from fedhpro_flwr.data.ag_news import clean
from fedhpro_flwr.data.tokens import hash_words

REAL = Path(os.environ.get("FEDHPRO_DATA_DIR") or Path(__file__).parents[2] / ".." / "shared" / "data")

TRAIN = '"3","Oil rises","To #36;50 a\\barrel."\n"1","","Talks, ""at last"", begin"\n'
TEST = '"4","Moon","A probe lands"\n"2","Cup","Final\ntoday"\n\n'


def fill(root: Path, **files: str | bytes) -> Path:
    """root/AG_NEWS/<name>.csv with that content."""
    (root / "AG_NEWS").mkdir(exist_ok=True)
    for name, content in files.items():
        (root / "AG_NEWS" / f"{name}.csv").write_bytes(content.encode() if isinstance(content, str) else content)
    return root


@pytest.mark.parametrize(("name", "file"), [("ag-news", "train"), ("ag-news-part", "train_subset")])
def test_labels_and_texts_by_hand(name, file, tmp_path):
    fill(tmp_path, test=TEST, **{file: TRAIN})
    loaded = load(DataSource(name=name, root=str(tmp_path), text_length=6, vocabulary=500))
    assert (loaded.name, loaded.class_names) == (name, ("World", "Sports", "Business", "Sci/Tech"))
    assert (loaded.input_shape, loaded.vocabulary) == ((6,), 500)
    assert (loaded.train.labels.tolist(), loaded.test.labels.tolist()) == ([2, 0], [3, 1])
    texts = ["oil rises to 50 a barrel", "talks at last begin", "moon a probe lands", "cup final today"]
    assert torch.equal(
        torch.cat((loaded.train.inputs, loaded.test.inputs)), hash_words(texts, length=6, vocabulary=500)
    )


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        ("AT T #39;s  #39;System X #39; computer", "AT T's 'System X' computer"),
        ("for  #36;10 million,\\privately funded", "for $10 million, privately funded"),
        (r'worms\"Sven\Jaschan".\\', 'worms "Sven Jaschan".'),
        ("Inc.&lt;AAPL.O&gt; and &lt;b&gt;bold&lt;/b&gt;&lt;br/&gt;text", "Inc.<AAPL.O> and bold text"),
        ('&lt;A HREF="http://x.y"\\ id=1&gt;link&lt;/A&gt; R&amp;D', "link R&D"),
        ("a #151; b", "a\u2014 b"),
        ("rank #3 of 5; done", "rank #3 of 5; done"),
    ],
)
def test_clean_by_hand(raw, text):
    assert clean(raw) == text


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (TRAIN + '"5","a","b"\n', r"train\.csv, line 3: the class is '5', allowed are 1, 2, 3 and 4"),
        ('"class","title","description"\n' + TRAIN, r"train\.csv, line 1: the class is 'class'"),
        (TRAIN + '"1","a b"\n', r"train\.csv, line 3: class, title and description are needed, the row has 2 columns"),
        (
            TRAIN + '"1","a","b\n"2","c","d"\n',
            r"train\.csv, line 3: a quote is not closed or stands in the wrong place",
        ),
        (TRAIN + '"1","a","b\n', r"train\.csv, line 3: a quote is not closed"),
        ("", r"train\.csv is empty"),
        (b'"1","a","caf\xe9"\n', r"train\.csv is no UTF-8 text"),
    ],
)
def test_refusals_name_file_and_line(content, message, tmp_path):
    fill(tmp_path, train=content, test=TEST)
    with pytest.raises(ValueError, match=message) as caught:
        load(DataSource(name="ag-news", root=str(tmp_path)))
    assert "\n" not in str(caught.value)


def test_a_line_is_counted_where_its_row_begins(tmp_path):
    fill(tmp_path, train='"1","two\nlines","x"\n\n"9","a","b"\n', test=TEST)
    with pytest.raises(ValueError, match="line 4: the class is '9'"):
        load(DataSource(name="ag-news", root=str(tmp_path)))


@pytest.mark.parametrize(("name", "missing"), [("ag-news", "train"), ("ag-news-part", "train_subset")])
def test_a_missing_file_says_what_to_put_where(name, missing, tmp_path):
    fill(tmp_path, test=TEST)
    with pytest.raises(
        FileNotFoundError, match=rf"{name}': put {missing}\.csv into .*AG_NEWS \(data\.download = true cannot"
    ):
        load(DataSource(name=name, root=str(tmp_path)))
    fill(tmp_path, **{missing: TRAIN})
    (tmp_path / "AG_NEWS" / "test.csv").unlink()
    with pytest.raises(FileNotFoundError, match=r"put test\.csv into"):
        load(DataSource(name=name, root=str(tmp_path)))


@pytest.mark.skipif(not (REAL / "AG_NEWS").is_dir(), reason=f"no AG_NEWS in {REAL}")
def test_real_part_of_ag_news():
    loaded = load(DataSource(name="ag-news-part", root=str(REAL)))
    assert (len(loaded.train), len(loaded.test), loaded.input_shape) == (7984, 7600, (64,))
    assert torch.bincount(loaded.train.labels).tolist() == [2683, 1168, 1299, 2834]
    assert torch.bincount(loaded.test.labels).tolist() == [1900] * 4
    first = "fears for t n pension after talks unions representing workers at turner newall say they are disappointed"
    assert torch.equal(loaded.test.inputs[0, :17], hash_words([first], length=17, vocabulary=20_000)[0])
    lengths = (loaded.train.inputs != 0).sum(dim=1)
    assert (int(lengths.min()), int(lengths.max())) == (9, 64)
