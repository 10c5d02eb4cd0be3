"""`text-transformer`: a small pre-norm transformer encoder (Vaswani et al. 2017)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fedhpro_flwr.data.data_set import PADDING
from fedhpro_flwr.models.layers import linear_relu
from fedhpro_flwr.models.model import Model, ModelShape, model
from fedhpro_flwr.models.transformer_layer import TransformerLayer, mean_over_tokens

DEFAULT_WIDTH = 64
EMBEDDING = 64
LAYERS = 2
HEADS = 4
HIDDEN = 256  # units between the two linears of a layer


class TokenTransformer(nn.Module):
    """Tokens [B, L] to the mean over the text of the last layer's vectors [B, E]."""

    def __init__(self, length: int, vocabulary: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, EMBEDDING, padding_idx=PADDING)
        self.positions = nn.Parameter(0.02 * torch.randn(length, EMBEDDING))
        self.layers = nn.ModuleList(TransformerLayer(EMBEDDING, HEADS, HIDDEN) for _ in range(LAYERS))
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
    encoder = nn.Sequential(TokenTransformer(*shape.tokens("text-transformer")), *linear_relu(EMBEDDING, width))
    return Model(encoder, nn.Linear(width, shape.num_classes))
