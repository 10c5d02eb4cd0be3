"""The tokens of a .csv are made once, and anew where a text, the tokenizer or a setting is another."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch

from fedhpro_flwr.data import DataSource, kept_tokens, load
from fedhpro_flwr.data.kept_tensor import FOLDER
from fedhpro_flwr.data.tokens import hash_words, tokenize

SOURCE = DataSource(name="text-csv", text_length=3, vocabulary=50)


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The texts of every call of the tokenizer, but the one that asks for the number of its ids."""
    calls: list[list[str]] = []

    def noted(texts: list[str], source: DataSource) -> tuple[torch.Tensor, int]:
        if texts != [""]:
            calls.append(texts)
        return tokenize(texts, source)

    monkeypatch.setattr(kept_tokens, "tokenize", noted)
    return calls


def test_what_is_kept_is_what_was_made(made: list[list[str]], tmp_path: Path) -> None:
    texts = ["one two three four", "", "two"]
    first, again = (kept_tokens.kept_tokens(texts, SOURCE, tmp_path / "a.csv") for _ in range(2))
    assert made == [texts]
    assert torch.equal(first[0], again[0]) and torch.equal(again[0], hash_words(texts, length=3, vocabulary=50))
    assert first[1] == again[1] == 50 and again[0].dtype == torch.int32


def test_another_text_or_setting_is_made_anew_and_replaces_it(made: list[list[str]], tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    cases = [
        (["ab", "c"], SOURCE),
        (["a", "bc"], SOURCE),
        (["a", "bc"], SOURCE.model_copy(update={"text_length": 4})),
        (["a", "bc"], SOURCE.model_copy(update={"vocabulary": 60})),
    ]
    for number, (texts, source) in enumerate(cases, 1):
        tokens, _ = kept_tokens.kept_tokens(texts, source, file)
        assert len(made) == number and torch.equal(tokens, tokenize(texts, source)[0])
    assert len(list((tmp_path / FOLDER).iterdir())) == 1
    kept_tokens.kept_tokens(["a"], SOURCE, tmp_path / "b.csv")
    assert len(list((tmp_path / FOLDER).iterdir())) == 2  # each file has its own


def test_another_tokenizer_in_the_same_folder_is_another(made: list[list[str]], tmp_path: Path) -> None:
    tokenizers = pytest.importorskip("tokenizers", reason="the package tokenizers is not installed")
    source = SOURCE.model_copy(update={"tokenizer": str(tmp_path / "t")})
    (tmp_path / "t").mkdir()
    for number, words in enumerate((("<pad>", "<unk>", "a"), ("<pad>", "a", "<unk>", "b")), 1):
        ids = {word: place for place, word in enumerate(words)}
        tokenizers.Tokenizer(tokenizers.models.WordLevel(ids, unk_token="<unk>")).save(
            str(tmp_path / "t" / "tokenizer.json")
        )
        for _ in range(2):
            tokens, vocabulary = kept_tokens.kept_tokens(["a"], source, tmp_path / "a.csv")
            assert (tokens[0, 0], vocabulary, len(made)) == (words.index("a"), len(words), number)
    (tmp_path / "t" / "tokenizer.json").unlink()
    with pytest.raises(ValueError, match=r"holds no tokenizer|is read by the package transformers"):
        kept_tokens.kept_tokens(["a"], source, tmp_path / "a.csv")


def test_another_tokenizer_of_one_size_and_time_is_another(made: list[list[str]], tmp_path: Path) -> None:
    pytest.importorskip("tokenizers", reason="the package tokenizers is not installed")
    source = SOURCE.model_copy(update={"tokenizer": str(tmp_path / "t")})
    (tmp_path / "t").mkdir()
    file = tmp_path / "t" / "tokenizer.json"
    for number, (a, b) in enumerate(((1, 2), (2, 1)), 1):
        model = {"type": "WordLevel", "vocab": {"<pad>": 0, "a": a, "b": b}, "unk_token": "b"}
        (tmp_path / "new").write_text(json.dumps({"version": "1.0", "model": model}))
        os.utime(tmp_path / "new", (5, 5))
        (tmp_path / "new").replace(file)
        assert kept_tokens.kept_tokens(["a"], source, tmp_path / "a.csv")[0][0, 0] == a and len(made) == number


def test_a_csv_that_grows_is_read_as_it_is(made: list[list[str]], tmp_path: Path) -> None:
    for part in ("train", "test"):
        (tmp_path / f"{part}.csv").write_text(f"label,text\nham,{part} one\nspam,{part} two\n")
    source = SOURCE.model_copy(update={"path": str(tmp_path)})
    load(source)
    with (tmp_path / "train.csv").open("a") as file:
        file.write("ham,three\n")
    loaded = load(source)
    assert loaded.train.labels.tolist() == [0, 1, 0] and loaded.test.labels.tolist() == [0, 1]
    assert torch.equal(loaded.train.inputs, hash_words(["train one", "train two", "three"], length=3, vocabulary=50))
    assert [len(texts) for texts in made] == [2, 2, 3]  # the test part was kept
