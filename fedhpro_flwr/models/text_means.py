"""The mean over the tokens of a text, paddings left out."""

from __future__ import annotations

from torch import Tensor


def mean_over_tokens(vectors: Tensor, real: Tensor) -> Tensor:
    """Mean of the vectors of real tokens: [B, L, E], bool [B, L] -> [B, E]; zeros for a text without any."""
    weights = real.to(vectors) / real.sum(dim=1, keepdim=True).clamp_min(1)  # [B, L]
    return (weights.unsqueeze(1) @ vectors).squeeze(1)
