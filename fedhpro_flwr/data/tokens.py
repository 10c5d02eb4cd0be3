"""Texts to token ids, by hashing words or with the tokenizer of a Hugging Face folder.

Hashing needs no vocabulary, so nothing has to be counted over the texts of all clients, and clients that never met
give a word the same id. A word is a run of letters and digits in lower case, with the marks on them (the vowels of
Hindi, accents that are characters of their own), in Unicode's form C; punctuation, spaces and underscores separate
words and are dropped. Writing systems without spaces between words need a folder's tokenizer.
"""

from __future__ import annotations

import re
import unicodedata
import zlib
from collections.abc import Sequence
from functools import cache

import numpy as np
import torch
from torch import Tensor

from fedhpro_flwr.data.data_set import PADDING
from fedhpro_flwr.data.hugging_face_tokenizer import tokenize_by_folder
from fedhpro_flwr.data.registry import DataSource
from fedhpro_flwr.home_folder import expanded

ASCII_WORD = re.compile(r"[^\W_]+")
MARKS = ("Mn", "Mc")  # Unicode's categories of marks on or beside a letter, which `re` does not count as letters
# They choose how a character is drawn, mostly an emoji, and mean nothing: they separate words, as the emoji does.
VARIATION_SELECTORS = frozenset(map(chr, (*range(0x180B, 0x1810), *range(0xFE00, 0xFE10))))


def tokenize(texts: Sequence[str], source: DataSource) -> tuple[Tensor, int]:
    """Token ids by the tokenizer that `source` names.

    Args:
        texts: N texts.
        source: its `tokenizer`, `text_length` (L) and, for hashing, `vocabulary`.

    Returns:
        int32 token ids [N, L], PADDING behind the end of a text; and how many token ids there are.

    Raises:
        FileNotFoundError, ValueError: a tokenizer's folder is missing or cannot be used.
    """
    if source.tokenizer == "hashing":
        return hash_words(texts, length=source.text_length, vocabulary=source.vocabulary), source.vocabulary
    return tokenize_by_folder(texts, expanded(source.tokenizer), length=source.text_length)


def hash_words(texts: Sequence[str], *, length: int, vocabulary: int) -> Tensor:
    """Hash the first `length` words of every text into the ids 1 .. vocabulary - 1.

    Words may share an id; with 20,000 ids and 30,000 words most do, the frequent ones rarely with each other.

    Args:
        texts: N texts. One without a word becomes the empty word's id, 1: a mean over no token is undefined.
        length: L.
        vocabulary: number of token ids, PADDING included, at least 2.

    Returns:
        int32 token ids [N, L], PADDING behind the end of a text.
    """
    tokens = np.full((len(texts), length), PADDING, dtype=np.int32)
    for row, text in zip(tokens, texts, strict=True):
        words = words_of(text)[:length] or [""]
        row[: len(words)] = [word_id(word, vocabulary) for word in words]
    return torch.from_numpy(tokens)


def words_of(text: str) -> list[str]:
    """The words of a text, in their order."""
    if text.isascii():
        return ASCII_WORD.findall(text.lower())
    # After lower(), whose results need not be of form C.
    return _word().findall(unicodedata.normalize("NFC", text.lower()))


@cache
def _word() -> re.Pattern[str]:
    """A letter or digit and all letters, digits and marks that follow. Only made when needed, as it takes 20 ms."""
    # Beyond Unicode's planes 0 and 1 the only marks are variation selectors.
    marks = "".join(c for c in map(chr, range(0x300, 0x20000)) if unicodedata.category(c) in MARKS)
    return re.compile(rf"[^\W_]+(?:[{''.join(sorted(set(marks) - VARIATION_SELECTORS))}]+[^\W_]*)*")


def word_id(word: str, vocabulary: int) -> int:
    """1 + crc32 of the word's UTF-8 bytes modulo (vocabulary - 1): the same in every process and on every machine."""
    return 1 + zlib.crc32(word.encode()) % (vocabulary - 1)
