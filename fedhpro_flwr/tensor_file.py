"""Tensors by name, to the bytes of a safetensors file and from such a file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor


def file_content(tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> bytes:
    """A file's bytes, wherever the tensors lie."""
    # Copied, because safetensors refuses tensors that share their memory, as those of tied layers do.
    copies = {
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format) for name, tensor in tensors.items()
    }
    return save(copies, None if metadata is None else dict(metadata))


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """A safetensors file's tensors, in memory that torch allocates, and its metadata.

    As safetensors reads them they lie where the file has them, behind a header of any length. In memory that is not
    aligned to 16 bytes, products of matrices differ in their last bits: a resumed run would from one that was not
    stopped, and a prediction from the run's test.

    Raises:
        OSError, SafetensorError: it cannot be read, or is damaged.
    """
    with safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118  it is no mapping
        return tensors, file.metadata() or {}
