"""`text-transformer`: a small pre-norm transformer encoder (Vaswani et al. 2017, Xiong et al. 2020)."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fedhpro_flwr.data.data_set import PADDING
from fedhpro_flwr.models.model import Model, ModelShape, model
from fedhpro_flwr.models.text_means import mean_over_tokens

DEFAULT_WIDTH = 64
EMBEDDING = 64
LAYERS = 2
HEADS = 4


class Layer(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x)).

    Written out because `nn.TransformerEncoderLayer` takes another path in eval mode, whose numbers differ.
    """

    def __init__(self) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(EMBEDDING)
        self.queries_keys_values = nn.Linear(EMBEDDING, 3 * EMBEDDING)
        self.output = nn.Linear(EMBEDDING, EMBEDDING)
        self.mlp = nn.Sequential(
            nn.LayerNorm(EMBEDDING),
            nn.Linear(EMBEDDING, 4 * EMBEDDING),
            nn.GELU(),
            nn.Linear(4 * EMBEDDING, EMBEDDING),
        )

    def forward(self, x: Tensor, real: Tensor) -> Tensor:
        """[B, L, E] -> [B, L, E]; every token attends to the `real` ones [B, L]."""
        qkv = self.queries_keys_values(self.attention_norm(x))  # [B, L, 3E]
        q, k, v = qkv.unflatten(2, (3, HEADS, -1)).permute(2, 0, 3, 1, 4)  # [B, heads, L, E / heads] each
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=real[:, None, None])
        x = x + self.output(mixed.transpose(1, 2).flatten(2))
        return cast(Tensor, x + self.mlp(x))


class TokenTransformer(nn.Module):
    """Tokens [B, L] to the mean over the text of the last layer's vectors [B, E]."""

    def __init__(self, length: int, vocabulary: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, EMBEDDING, padding_idx=PADDING)
        self.positions = nn.Parameter(0.02 * torch.randn(length, EMBEDDING))
        self.layers = nn.ModuleList(Layer() for _ in range(LAYERS))
        self.norm = nn.LayerNorm(EMBEDDING)

    def forward(self, tokens: Tensor) -> Tensor:
        """[B, L] -> [B, E]; L may be less than the length the model is built for."""
        real = tokens != PADDING  # [B, L]
        x = self.embedding(tokens) + self.positions[: tokens.shape[1]]  # [B, L, E]
        for layer in self.layers:
            x = layer(x, real)
        return mean_over_tokens(self.norm(x), real)


@model("text-transformer")
def text_transformer(shape: ModelShape) -> Model:
    """Embeddings of 64 with learnt positions, two layers of four heads, the mean, linear-ReLU of D units, the head.

    Features are non-negative. No dropout, so that a visit is determined by its weights and batches alone.

    Raises:
        ValueError: the inputs are no text.
    """
    width = shape.width or DEFAULT_WIDTH
    encoder = nn.Sequential(
        TokenTransformer(*shape.tokens("text-transformer")), nn.Linear(EMBEDDING, width), nn.ReLU(inplace=True)
    )
    return Model(encoder, nn.Linear(width, shape.num_classes))
