"""The order in which one epoch visits the samples."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor


def batches(num_samples: int, batch_size: int, generator: torch.Generator) -> Iterator[Tensor]:
    """One epoch: every sample once, in the generator's `torch.randperm` order, the last partial batch kept.

    Args:
        num_samples: n, the samples are 0..n-1.
        batch_size: B.
        generator: on the CPU; each epoch takes one permutation from it.

    Returns:
        int64 sample ids [B], the last batch shorter if B does not divide n.

    Raises:
        ValueError: `batch_size` below 1, or `num_samples` below 0.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size = {batch_size}: it must be 1 or larger")
    if num_samples < 0:
        raise ValueError(f"num_samples = {num_samples}: it must be 0 or larger")
    # Drawn here and not inside a generator function: the permutation must not depend on when
    # the caller iterates.
    order = torch.randperm(num_samples, generator=generator)
    return iter(torch.split(order, batch_size)) if num_samples else iter(())
