"""`fasttext`: the mean of word embeddings (Joulin, Grave, Bojanowski, Mikolov 2017), with one hidden layer.

The original has its linear classifier directly on the mean and adds pairs of words to the vocabulary; here a
linear-ReLU layer makes features of any width that are non-negative like those of the other models.
"""

from __future__ import annotations

from torch import nn

from fedhpro_flwr.data.data_set import PADDING
from fedhpro_flwr.models.layers import linear_relu
from fedhpro_flwr.models.model import Model, ModelShape, model

DEFAULT_WIDTH = 64
EMBEDDING = 64
SPREAD = 0.3  # standard deviation of new embeddings: 1 learns slower (AG News), 0.1 fails at high learning rates


@model("fasttext")
def fasttext(shape: ModelShape) -> Model:
    """The mean embedding [B, 64] of the tokens other than PADDING, linear-ReLU of D units, the head.

    Features are non-negative. No dropout, so that a visit is determined by its weights and batches alone.

    Raises:
        ValueError: the inputs are no text.
    """
    _, vocabulary = shape.tokens("fasttext")
    width = shape.width or DEFAULT_WIDTH
    embedding = nn.EmbeddingBag(vocabulary, EMBEDDING, mode="mean", padding_idx=PADDING)
    embedding.weight.data.mul_(SPREAD)  # drawn from N(0, 1), except PADDING's zeros
    encoder = nn.Sequential(embedding, *linear_relu(EMBEDDING, width))
    return Model(encoder, nn.Linear(width, shape.num_classes))
