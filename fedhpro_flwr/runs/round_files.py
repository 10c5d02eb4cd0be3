"""A folder of files round-<r>.safetensors, each of the state after round r; tensors to and from files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor


def round_file(folder: Path, server_round: int) -> Path:
    """The file of a round."""
    return folder / f"round-{server_round}.safetensors"


def rounds_in(folder: Path) -> list[int]:
    """The rounds that a folder has files of, ascending; none where there is no folder."""
    found = (path.stem.removeprefix("round-") for path in folder.glob("round-*.safetensors"))
    return sorted(int(number) for number in found if number.isdecimal())


def file_content(tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> bytes:
    """A file's bytes, wherever the tensors lie."""
    # Copies: safetensors takes no two tensors that share their memory, as layers with one weight do.
    copies = {
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format) for name, tensor in tensors.items()
    }
    return save(copies, None if metadata is None else dict(metadata))


def in_own_memory(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copies of a file's tensors where torch would have made them.

    As they are read they lie where the file has them, behind a header of any length. Products of matrices have other
    last bits where memory is not aligned to 16 bytes, and a resumed run would part from one that was not stopped.
    """
    return {name: tensor.clone() for name, tensor in tensors.items()}
