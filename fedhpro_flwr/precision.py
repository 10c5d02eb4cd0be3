"""How exact the arithmetic of training is, and whether a GPU repeats it bit for bit.

With `local.precision = "bfloat16"` encoder and head compute in bfloat16 in local training, wherever torch's autocast
does: in products and convolutions, with float32 sums inside. Weights, gradients, the optimizer, all losses, class
gradients, evaluation and whatever is sent stay float32. bfloat16 has the range of float32, so no loss is scaled.
"""

from __future__ import annotations

import os
from contextlib import AbstractContextManager, nullcontext
from typing import Literal

import torch

Precision = Literal["float32", "bfloat16"]
CUBLAS_WORKSPACE, REPEATABLE = "CUBLAS_WORKSPACE_CONFIG", ":4096:8"  # as NVIDIA's documentation of cuBLAS names it


def forward_in(precision: Precision, device: torch.device) -> AbstractContextManager[object]:
    """The context in which encoder and head compute; what comes out of it may be bfloat16."""
    return nullcontext() if precision == "float32" else torch.autocast(device.type, dtype=torch.bfloat16)


def has_bfloat16(device: torch.device) -> bool:
    """Whether a device computes in bfloat16 itself; a CPU that does not is slow, but right."""
    return device.type != "cuda" or torch.cuda.is_bf16_supported(including_emulation=False)


def repeat_on_gpu(deterministic: bool) -> None:
    """Restrict a GPU to kernels whose result does not depend on the order in which its threads end, or allow any.

    To be called before the first product on the GPU: cuBLAS reads its environment once. If torch has no such form of a
    kernel, the other one is used and torch's warning names it. On a CPU every kernel used here repeats its results.
    """
    if deterministic:
        os.environ.setdefault(CUBLAS_WORKSPACE, REPEATABLE)
    torch.use_deterministic_algorithms(deterministic, warn_only=True)
    # Else every new tensor is filled first, by a kernel of its own. Nothing here reads what it has not written.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cudnn.deterministic = deterministic
    torch.backends.cudnn.benchmark = False  # it would time kernels and choose others in the next run
