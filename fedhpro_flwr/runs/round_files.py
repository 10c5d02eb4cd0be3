"""A folder of files round-<r>.safetensors, each with the state after round r; tensors to and from files."""

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
    """The rounds that a folder has files of, ascending; none if there is no folder."""
    found = (path.stem.removeprefix("round-") for path in folder.glob("round-*.safetensors"))
    return sorted(int(number) for number in found if number.isdecimal())


def file_content(tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> bytes:
    """A file's bytes, wherever the tensors lie."""
    # Copied, because safetensors refuses tensors that share their memory, as those of tied layers do.
    copies = {
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format) for name, tensor in tensors.items()
    }
    return save(copies, None if metadata is None else dict(metadata))


def in_own_memory(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copies of a file's tensors in memory that torch allocates.

    Tensors that are read lie where the file has them, behind a header of any length. If memory is not aligned to 16
    bytes, products of matrices differ in their last bits, and so a resumed run would from one that was not stopped.
    """
    return {name: tensor.clone() for name, tensor in tensors.items()}
