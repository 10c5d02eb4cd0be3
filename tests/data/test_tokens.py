"""Texts to token ids: hashing by hand, its properties, and tokenizer folders of tiny vocabularies."""

from __future__ import annotations

import json
import re
import sys
import types
import unicodedata
import zlib
from pathlib import Path

import pytest
import torch

from fedhpro_flwr.data import DataSource
from fedhpro_flwr.data.hugging_face_tokenizer import swap_padding
from fedhpro_flwr.data.tokens import hash_words, tokenize, word_id, words_of


def test_words_are_hashed_by_hand():
    tokens = hash_words(["Hello, WORLD!", "it's 2024_x"], length=5, vocabulary=1000)
    hello, world = (1 + zlib.crc32(word) % 999 for word in (b"hello", b"world"))
    it, s, number, x = (1 + zlib.crc32(word) % 999 for word in (b"it", b"s", b"2024", b"x"))
    assert tokens.tolist() == [[hello, world, 0, 0, 0], [it, s, number, x, 0]]
    assert tokens.dtype == torch.int32


def test_the_hash_never_changes():
    # Python's own hash would differ from process to process; another one would void every model trained so far.
    assert [word_id(word, 20_000) for word in ("", "the", "économie", "北京")] == [1, 13640, 7204, 8306]


@pytest.mark.parametrize(
    "word",
    ["हिन्दी", "की", "தமிழ்", "বাংলা", "السَّلامُ", "שָׁלוֹם", "café", "việt", "ё", "ọ̀rọ̀", "i̇stanbul", "x̄1"],
)
def test_marks_belong_to_the_word_they_stand_in(word):
    nfc = unicodedata.normalize("NFC", word)
    for form in ("NFC", "NFD"):
        written = unicodedata.normalize(form, word)
        assert words_of(f"{written}, _{written}_!{written}") == [nfc] * 3
        assert words_of(written.upper().lower()) == [nfc]


def test_words_that_differ_by_a_mark_differ():
    assert words_of("की का कि कु") == ["की", "का", "कि", "कु"]


def test_capitals_become_form_c_again():
    assert words_of("J\u030c") == words_of("\u01f0") == ["\u01f0"]  # the capital has no character with its accent


@pytest.mark.parametrize(
    ("text", "words"),
    [("I \u2764\ufe0f it", ["i", "it"]), ("2\ufe0f\u20e3 ok", ["2", "ok"]), ("\u0301 a", ["a"]),
     ("naïve \U0001f44d\U0001f3fd ok", ["naïve", "ok"]), ("Straße ÆON №5", ["straße", "æon", "5"]),
     ("don\u2019t C++ 3.14 ﬁne", ["don", "t", "c", "3", "14", "ﬁne"])],
)  # fmt: skip
def test_marks_alone_are_no_words_and_other_texts_are_cut_as_ever(text, words):
    assert words_of(text) == words == re.findall(r"[^\W_]+", text.lower())


def test_every_mark_that_is_no_variation_selector_belongs_to_words():
    for c in map(chr, range(sys.maxunicode + 1)):
        if unicodedata.category(c) in ("Mn", "Mc"):
            is_selector = "VARIATION SELECTOR" in unicodedata.name(c)
            assert words_of(f"a\u09d7{c}b")[1:] == (["b"] if is_selector else []), hex(ord(c))


def test_long_texts_are_cut_and_empty_ones_become_one_token():
    tokens = hash_words(["a b c d", "a b", "", " ...!", "_"], length=2, vocabulary=50)
    assert torch.equal(tokens[0], tokens[1])
    assert tokens[2:].tolist() == [[1, 0]] * 3  # the id of the empty word, whose crc32 is 0


@pytest.mark.parametrize("vocabulary", [2, 3, 100])
def test_no_word_becomes_padding_and_none_leaves_the_vocabulary(vocabulary):
    ids = {word_id(f"word{i}", vocabulary) for i in range(2000)}
    assert ids == set(range(1, vocabulary))


def test_words_spread_evenly():
    counts = torch.bincount(torch.tensor([word_id(f"word{i}", 101) for i in range(100_000)]), minlength=101)[1:]
    chi_square = float(((counts - 1000.0) ** 2 / 1000).sum())
    assert 55 < chi_square < 155  # 99 degrees of freedom: mean 99, standard deviation 14; four of them either way


def test_tokenize_takes_length_and_vocabulary_from_the_source():
    tokens, vocabulary = tokenize(["one two"], DataSource(name="x", text_length=3, vocabulary=77))
    assert (tokens.shape, vocabulary) == ((1, 3), 77)
    assert tokens.tolist() == hash_words(["one two"], length=3, vocabulary=77).tolist()


def test_swap_padding_by_hand_and_back():
    tokens = torch.tensor([[0, 1, 2, 1], [3, 0, 1, 1]], dtype=torch.int32)
    swapped = swap_padding(tokens, 1)
    assert swapped.tolist() == [[1, 0, 2, 0], [3, 1, 0, 0]]
    assert swapped.dtype == torch.int32
    assert torch.equal(swap_padding(swapped, 1), tokens)
    assert torch.equal(swap_padding(tokens, 0), tokens)


WORDS = ("<s>", "<pad>", "</s>", "<unk>", "hello", "world")


def tokenizer_folder(folder: Path, *, marks: bool, words: tuple[str, ...] = WORDS) -> Path:
    """A folder with a word-level tokenizer.json whose ids are the places in `words`."""
    tokenizers = pytest.importorskip("tokenizers", reason="the package tokenizers is not installed")
    vocabulary = {word: place for place, word in enumerate(words)}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    if marks:
        tokenizer.post_processor = tokenizers.processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    tokenizer.enable_padding(pad_id=1, pad_token="<pad>", length=9)  # its own padding must not matter
    folder.mkdir()
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


def test_a_tokenizer_folder_pads_with_0_and_keeps_its_marks(tmp_path):
    folder = tokenizer_folder(tmp_path / "t", marks=True)
    tokens, vocabulary = tokenize(
        ["hello world", "hello world hello world", ""], DataSource(name="x", tokenizer=str(folder), text_length=5)
    )
    # <s> is 0 and <pad> is 1 in the folder; here they have changed places.
    assert tokens.tolist() == [[1, 4, 5, 2, 0], [1, 4, 5, 4, 2], [1, 2, 0, 0, 0]]
    assert (tokens.dtype, vocabulary) == (torch.int32, 6)
    short, _ = tokenize(["world hello"], DataSource(name="x", tokenizer=str(folder), text_length=3))
    assert short.tolist() == [[1, 5, 2]]


@pytest.mark.parametrize("length", [1, 2])
def test_a_length_that_marks_fill_is_refused(length, tmp_path):
    folder = tokenizer_folder(tmp_path / "t", marks=True)
    sentence = f"data.text-length = {length} leaves no token of a text beside the 2 for its beginning and end that "
    with pytest.raises(ValueError, match=f"^{re.escape(f'{sentence}the tokenizer in {folder} sets; use 3 or more')}$"):
        tokenize(["hello"], DataSource(name="x", tokenizer=str(folder), text_length=length))


def test_a_text_without_tokens_becomes_one(tmp_path):
    folder = tokenizer_folder(tmp_path / "t", marks=False)
    tokens, _ = tokenize(["", "world"], DataSource(name="x", tokenizer=str(folder), text_length=2))
    assert tokens.tolist() == [[1, 0], [5, 0]]


def test_the_padding_token_is_the_one_that_the_folder_names(tmp_path):
    folder = tokenizer_folder(tmp_path / "t", marks=False)
    for named in ("</s>", {"content": "</s>"}):
        (folder / "tokenizer_config.json").write_text(json.dumps({"pad_token": named}))
        tokens, _ = tokenize(["world"], DataSource(name="x", tokenizer=str(folder), text_length=2))
        assert tokens.tolist() == [[5, 0]]
    (folder / "tokenizer_config.json").write_text(json.dumps({"pad_token": "[nothing]"}))
    with pytest.raises(ValueError, match=r"tokenizer\.json has no padding token \(looked for \[nothing\]\)"):
        tokenize(["world"], DataSource(name="x", tokenizer=str(folder)))
    (folder / "tokenizer_config.json").write_text("{")
    with pytest.raises(ValueError, match=r"tokenizer_config\.json is damaged"):
        tokenize(["world"], DataSource(name="x", tokenizer=str(folder)))


def test_a_folder_without_tokenizer_json_is_read_by_transformers(tmp_path):
    pytest.importorskip("transformers", reason="the package transformers is not installed")
    (tmp_path / "vocab.txt").write_text("\n".join(("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "hello", "world")))
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    tokens, vocabulary = tokenize(["Hello there", ""], DataSource(name="x", tokenizer=str(tmp_path), text_length=5))
    assert tokens.tolist() == [[2, 5, 1, 3, 0], [2, 3, 0, 0, 0]]
    assert vocabulary == 7
    with pytest.raises(ValueError, match=r"data\.text-length = 2 leaves no token .*; use 3 or more$"):
        tokenize(["hello"], DataSource(name="x", tokenizer=str(tmp_path), text_length=2))


def test_folders_that_hold_no_tokenizer(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"data\.tokenizer = .*nowhere' is no folder"):
        tokenize(["a"], DataSource(name="x", tokenizer=str(tmp_path / "nowhere")))
    pytest.importorskip("tokenizers", reason="the package tokenizers is not installed")
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(ValueError, match=r"tokenizer\.json is damaged or no tokenizer"):
        tokenize(["a"], DataSource(name="x", tokenizer=str(tmp_path)))
    pytest.importorskip("transformers", reason="the package transformers is not installed")
    (tmp_path / "tokenizer.json").unlink()
    with pytest.raises(ValueError, match="holds no tokenizer that can be read") as caught:
        tokenize(["a"], DataSource(name="x", tokenizer=str(tmp_path)))
    assert "\n" not in str(caught.value)


def test_no_code_that_a_folder_brings_along_is_trusted(tmp_path, monkeypatch):
    asked = []

    class AutoTokenizer:
        @staticmethod
        def from_pretrained(folder, **options):
            asked.append(options)
            raise OSError("enough")

    fake = types.ModuleType("transformers")
    fake.AutoTokenizer = AutoTokenizer
    monkeypatch.setitem(sys.modules, "transformers", fake)
    with pytest.raises(ValueError, match=r"holds no tokenizer that can be read \(enough\)"):
        tokenize(["a"], DataSource(name="x", tokenizer=str(tmp_path)))
    assert asked == [{"local_files_only": True, "trust_remote_code": False}]


@pytest.mark.parametrize(("package", "file"), [("tokenizers", "tokenizer.json"), ("transformers", "vocab.txt")])
def test_a_missing_package_is_named(package, file, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)  # what makes its import fail
    (tmp_path / file).write_text("{}")
    with pytest.raises(ValueError, match=rf"`pip install {package}`, or use data\.tokenizer = 'hashing'"):
        tokenize(["a"], DataSource(name="x", tokenizer=str(tmp_path)))
