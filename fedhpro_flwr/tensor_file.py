"""Tensors by name, to the bytes of a safetensors file and from such a file."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from safetensors.torch import save
from torch import Tensor


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
