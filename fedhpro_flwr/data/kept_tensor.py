"""A tensor that takes long to compute from files, kept in one file beside them.

The file is written whole or not at all, and carries the key it was computed for: anything else is computed anew.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from fedhpro_flwr.whole_file import whole_file

FOLDER = ".fedhpro-features"
TENSOR, KEY = "tensor", "fedhpro-key"


def kept_tensor(beside: Path, key: str, make: Callable[[], Tensor]) -> Tensor:
    """The tensor kept for `key`, mapped into memory; or a new one, which is then kept.

    It is looked for in the hidden folder FOLDER of `beside`, then in the user's cache folder ($XDG_CACHE_HOME/fedhpro
    or ~/.cache/fedhpro, where there is a home), and written to the first of them that can be written to. Where none
    can, it is used but not kept.

    Args:
        beside: the folder that FOLDER lies in.
        key: a hexadecimal hash of everything that the tensor depends on.
        make: computes it.
    """
    file_name = f"{key[:32]}.safetensors"
    for folder in _folders(beside):
        if (kept := _read(folder / file_name, key)) is not None:
            return kept
    tensor = make()
    for folder in _folders(beside):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with whole_file(folder / file_name) as scratch:
                save_file({TENSOR: tensor.contiguous()}, scratch, metadata={KEY: key})
            return tensor
        except (OSError, SafetensorError) as error:  # a folder that others own, a full disk
            reason = error
    print(f"fedhpro: what was computed cannot be kept ({reason}); it is computed again next time", file=sys.stderr)
    return tensor


def _folders(beside: Path) -> Iterator[Path]:
    yield beside / FOLDER
    try:
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser())
    except RuntimeError:  # a user without a home, as in some containers
        return
    yield cache / "fedhpro"


def _read(file: Path, key: str) -> Tensor | None:
    """The tensor of a file that is whole and was written for `key`."""
    try:
        with safe_open(file, framework="pt") as opened:
            if (opened.metadata() or {}).get(KEY) != key:
                return None
            tensor: Tensor = opened.get_tensor(TENSOR)
            return tensor
    except (OSError, SafetensorError):
        return None
