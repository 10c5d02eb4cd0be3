"""A tensor that takes long to compute from files, kept in one file beside them.

The file is written whole or not at all, and carries the key it was computed for: for any other key the tensor is
computed anew. The scratch file of a process that was killed is deleted by whoever looks there an hour later.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from fedhpro_flwr.home_folder import expanded
from fedhpro_flwr.whole_file import remove_abandoned, whole_file

FOLDER = ".fedhpro-features"
TENSOR, KEY = "tensor", "fedhpro-key"


def kept_tensor(beside: Path | None, key: str, make: Callable[[], Tensor], *, of: Path | None = None) -> Tensor:
    """The tensor kept for `key`, mapped into memory; or a new one, which is then kept.

    It is looked for in the hidden folder FOLDER of `beside`, then in the user's cache folder ($XDG_CACHE_HOME/fedhpro
    or ~/.cache/fedhpro, if there is a home), and written to the first of them that can be written to. If none can, it
    is used but not kept.

    Args:
        beside: the folder that FOLDER lies in; None for the cache folder alone, for files that many users may share.
        key: a hexadecimal hash of everything that the tensor depends on.
        make: computes it.
        of: the file or folder it is made of. Tensors kept of that under other keys are then deleted, or a folder that
            gets a picture a day would leave a copy of itself every day. None deletes nothing.
    """
    origin = hashlib.sha256(str(of.resolve()).encode()).hexdigest()[:16] + "-" if of else ""
    file_name = f"{origin}{key[:32]}.safetensors"
    for folder in _folders(beside):
        remove_abandoned(folder)
        if (kept := _read(folder / file_name, key)) is not None:
            return kept
    tensor = make()
    reason: Exception | str = "there is no cache folder"
    for folder in _folders(beside):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with whole_file(folder / file_name) as scratch:
                save_file({TENSOR: tensor.contiguous()}, scratch, metadata={KEY: key})
            for former in folder.glob(f"{origin}*.safetensors") if origin else ():
                if former.name != file_name:
                    former.unlink(missing_ok=True)  # a process that has mapped it keeps what it mapped
            return tensor
        except (OSError, SafetensorError) as error:  # a folder that others own, a full disk
            reason = error
    print(f"fedhpro: what was computed cannot be kept ({reason}); it is computed again next time", file=sys.stderr)
    return tensor


def file_state(file: Path) -> tuple[int, int, int, int]:
    """What tells a file from another one at its place without reading it: size, time of change, ctime and inode.

    `mv` and `unzip` keep the time of change, and the size may be the same too. But a file that was written or renamed
    has a new ctime, which nobody can set; and if the folder around it was replaced, another inode lies at its place.
    """
    found = file.stat()
    return found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino


def _folders(beside: Path | None) -> Iterator[Path]:
    if beside is not None:
        yield beside / FOLDER
    cache = Path(os.environ.get("XDG_CACHE_HOME") or expanded("~/.cache"))
    if cache.is_absolute():  # not for a user without a home, as in some containers
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
