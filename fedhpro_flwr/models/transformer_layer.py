"""The layer that `vit` and `text-transformer` are made of, and the mean over tokens that ends a text's encoder."""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn
from torch.nn import functional as F


class TransformerLayer(nn.Module):
    """x + attention(norm1(x)), then x + linear(gelu(linear(norm2(x)))): pre-norm, as Xiong et al. 2020.

    Written out because `nn.TransformerEncoderLayer` takes another path in eval mode, whose numbers differ.

    Args:
        width: E, numbers of a token.
        heads: of the attention; they share E.
        hidden: units between the two linears.
    """

    def __init__(self, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1 = nn.LayerNorm(width)
        self.queries_keys_values = nn.Linear(width, 3 * width)
        self.mix = nn.Linear(width, width)
        self.norm2 = nn.LayerNorm(width)
        self.feed_forward = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))

    def forward(self, x: Tensor, real: Tensor | None = None) -> Tensor:
        """Tokens [B, T, E] -> [B, T, E]; every token attends to the `real` ones, bool [B, T], or to all."""
        qkv = self.queries_keys_values(self.norm1(x))  # [B, T, 3E]
        q, k, v = qkv.unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)  # [B, heads, T, E / heads] each
        mask = None if real is None else real[:, None, None]  # [B, 1, 1, T]
        seen = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)  # [B, heads, T, E / heads]
        x = x + self.mix(seen.transpose(1, 2).flatten(2))
        return x + cast(Tensor, self.feed_forward(self.norm2(x)))


def mean_over_tokens(vectors: Tensor, real: Tensor) -> Tensor:
    """Mean of the vectors of real tokens: [B, L, E], bool [B, L] -> [B, E]; zeros for a text without any."""
    weights = real.to(vectors) / real.sum(dim=1, keepdim=True).clamp_min(1)  # [B, L]
    return (weights.unsqueeze(1) @ vectors).squeeze(1)
