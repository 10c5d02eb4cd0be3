"""Token ids of a file's texts, kept beside it: a deployed client is a new process for each message."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from fedhpro_flwr.data.kept_tensor import file_state, kept_tensor
from fedhpro_flwr.data.picture_features import package_version
from fedhpro_flwr.data.registry import DataSource
from fedhpro_flwr.data.tokens import tokenize
from fedhpro_flwr.home_folder import expanded

RECIPE = "tokens, 2"  # to be raised when `tokenize` changes: it makes all that is kept invalid


def kept_tokens(texts: Sequence[str], source: DataSource, file: Path) -> tuple[Tensor, int]:
    """What `tokenize` gives, kept until a text, the tokenizer or its settings change.

    Args:
        texts: N texts.
        source: its tokenizer and the tokenizer's settings are read.
        file: where the texts come from; the tokens are kept beside it, see `kept_tensor`.

    Returns:
        int32 token ids [N, L], and how many token ids there are.

    Raises:
        FileNotFoundError, ValueError: a tokenizer's folder is missing or cannot be used.
    """
    vocabulary = tokenize([""], source)[1]  # refuses a tokenizer that cannot be used, even if its tokens are kept
    parts = [RECIPE, source.text_length, vocabulary, _tokenizer(source.tokenizer), [len(text) for text in texts]]
    key = hashlib.sha256(json.dumps(parts).encode() + "".join(texts).encode()).hexdigest()
    return kept_tensor(file.parent, key, lambda: tokenize(texts, source)[0], of=file), vocabulary


def _tokenizer(name: str) -> list[object]:
    """What a tokenizer's tokens depend on. Its files are not read, as a model's large weights may be among them."""
    if name == "hashing":
        return [name]
    folder = expanded(name).resolve()
    files = [[file.name, *file_state(file)] for file in sorted(folder.iterdir()) if file.is_file()]
    return [str(folder), files, *map(package_version, ("tokenizers", "transformers"))]
