"""`text-cnn`: convolutions over word embeddings and the maximum over time (Kim 2014, "CNN-rand")."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fedhpro_flwr.data.data_set import PADDING
from fedhpro_flwr.models.layers import linear_relu
from fedhpro_flwr.models.model import Model, ModelShape, model

DEFAULT_WIDTH = 64
EMBEDDING = 64
FILTER_WIDTHS = (3, 4, 5)  # words
FILTERS = 64  # of each width; 100 in the paper


class WordConvolutions(nn.Module):
    """Tokens [B, L] to the largest response of every filter [B, 3 * 64], >= 0.

    A filter is applied from every word of the text onwards, with zeros after the text's end. So even a text of one word
    has a response to the widest filter, and paddings add none.
    """

    def __init__(self, vocabulary: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, EMBEDDING, padding_idx=PADDING)
        self.convolutions = nn.ModuleList(nn.Conv1d(EMBEDDING, FILTERS, width) for width in FILTER_WIDTHS)

    def forward(self, tokens: Tensor) -> Tensor:
        """[B, L] -> [B, 3 * 64]."""
        real = (tokens != PADDING).unsqueeze(1)  # [B, 1, L]
        words = self.embedding(tokens).mT * real  # [B, E, L]
        largest = []
        for width, convolution in zip(FILTER_WIDTHS, self.convolutions, strict=True):
            responses = F.relu(convolution(F.pad(words, (0, width - 1))))  # [B, 64, L]
            largest.append((responses * real).amax(dim=2))  # the mask's 0 is never above a response
        return torch.cat(largest, dim=1)


@model("text-cnn")
def text_cnn(shape: ModelShape) -> Model:
    """Embeddings of 64, 64 filters of each width 3, 4 and 5, the maximum over time, linear-ReLU of D units, the head.

    Features are non-negative. The paper's dropout is left out, so that weights and batches alone determine a visit.

    Raises:
        ValueError: the inputs are no text.
    """
    _, vocabulary = shape.tokens("text-cnn")
    width = shape.width or DEFAULT_WIDTH
    encoder = nn.Sequential(WordConvolutions(vocabulary), *linear_relu(len(FILTER_WIDTHS) * FILTERS, width))
    return Model(encoder, nn.Linear(width, shape.num_classes))
