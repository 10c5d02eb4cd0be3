"""Token ids by the tokenizer that lies in a model's folder, with PADDING in the place of the folder's padding id.

tokenizer.json is read by the package `tokenizers`, which needs neither torch nor transformers; a folder without that
file (older models) is read by `transformers`. Both are optional, and neither fetches anything here.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fedhpro_flwr.data.data_set import PADDING
from fedhpro_flwr.printable import one_line

EMPTY = 1  # id of a text without a token: a mean over none is undefined
PADDING_NAMES = ("[PAD]", "<pad>")  # tried if the folder does not say which of its tokens is for padding


def swap_padding(tokens: Tensor, padding: int) -> Tensor:
    """Exchange the ids PADDING and `padding` [N, L]; a second time undoes it.

    A tokenizer may pad with any id and mean something by 0. Everything here takes PADDING for the end of a text, so the
    two change places when texts are read, and again in front of a model that knows the tokenizer's own ids.
    """
    if padding == PADDING:
        return tokens
    swapped = tokens.clone()
    swapped[tokens == PADDING] = padding
    swapped[tokens == padding] = PADDING
    return swapped


def tokenize_by_folder(texts: Sequence[str], folder: Path, *, length: int) -> tuple[Tensor, int]:
    """Token ids by the tokenizer in `folder`, with the marks of beginning and end that it sets.

    Args:
        texts: N texts; one without a token becomes the id 1.
        folder: with tokenizer.json, or with what transformers makes a tokenizer from.
        length: L; longer texts are cut, their mark of the end kept.

    Returns:
        int32 token ids [N, L] after `swap_padding`, PADDING behind the end of a text; and how many token ids there are.

    Raises:
        FileNotFoundError: there is no such folder.
        ValueError: a package is missing; or the folder holds no tokenizer, one that names no padding token, or one
            whose marks leave no room for the tokens of a text.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"data.tokenizer = {str(folder)!r} is no folder; give a tokenizer's, or 'hashing'")
    read = _by_tokenizers if (folder / "tokenizer.json").is_file() else _by_transformers
    ids, padding, vocabulary = read(texts, folder, length)
    padded = np.full((len(texts), length), padding, dtype=np.int32)
    for row, found in zip(padded, ids, strict=True):
        row[: len(found)] = found
    tokens = swap_padding(torch.from_numpy(padded), padding)
    tokens[(tokens == PADDING).all(dim=1), 0] = EMPTY
    return tokens, vocabulary


def _by_tokenizers(texts: Sequence[str], folder: Path, length: int) -> tuple[list[list[int]], int, int]:
    """Token ids of every text, the padding id, the number of ids."""
    package = _optional("tokenizers", folder)
    file = folder / "tokenizer.json"
    try:
        tokenizer = package.Tokenizer.from_file(str(file))
    except Exception as error:  # the package raises no narrower type
        raise ValueError(f"{file} is damaged or no tokenizer ({error})") from error
    names = _padding_names(folder)
    padding = next((found for name in names if (found := tokenizer.token_to_id(name)) is not None), None)
    if padding is None:
        raise ValueError(f"{file} has no padding token (looked for {', '.join(names)}); add one to it")
    _refuse_only_marks(tokenizer.num_special_tokens_to_add(is_pair=False), folder, length)
    tokenizer.no_padding()
    tokenizer.enable_truncation(length)
    ids = [encoding.ids for encoding in tokenizer.encode_batch(list(texts))]
    return ids, padding, 1 + max(tokenizer.get_vocab(with_added_tokens=True).values())


def _padding_names(folder: Path) -> tuple[str, ...]:
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        file = folder / name
        try:
            named = json.loads(file.read_text(encoding="utf-8")).get("pad_token") if file.is_file() else None
        except (ValueError, AttributeError) as error:
            raise ValueError(f"{file} is damaged ({error})") from error
        if named:
            return (named["content"] if isinstance(named, dict) else str(named),)
    return PADDING_NAMES


def _by_transformers(texts: Sequence[str], folder: Path, length: int) -> tuple[list[list[int]], int, int]:
    """As `_by_tokenizers`, from a folder without tokenizer.json."""
    package = _optional("transformers", folder)
    try:
        tokenizer = package.AutoTokenizer.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)
    except Exception as error:  # many kinds, from several packages
        raise ValueError(
            f"data.tokenizer = {str(folder)!r} holds no tokenizer that can be read ({one_line(error)})"
        ) from error
    if tokenizer.pad_token_id is None:
        raise ValueError(f"data.tokenizer = {str(folder)!r} has no padding token; add one to it")
    _refuse_only_marks(tokenizer.num_special_tokens_to_add(), folder, length)
    encoded = tokenizer(list(texts), truncation=True, max_length=length)
    return encoded["input_ids"], int(tokenizer.pad_token_id), 1 + max(tokenizer.get_vocab().values())


def _refuse_only_marks(marks: int, folder: Path, length: int) -> None:
    if length <= marks:
        raise ValueError(
            f"data.text-length = {length} leaves no token of a text beside the {marks} for its beginning and end that "
            f"the tokenizer in {folder} sets; use {marks + 1} or more"
        )


def _optional(name: str, folder: Path) -> Any:
    try:
        return import_module(name)
    except ImportError as error:
        raise ValueError(
            f"data.tokenizer = {str(folder)!r} is read by the package {name}: `pip install {name}`, "
            "or use data.tokenizer = 'hashing'"
        ) from error
