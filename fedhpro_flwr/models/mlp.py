"""`mlp`: two fully connected layers, for vectors and small images."""

from __future__ import annotations

from torch import nn

from fedhpro_flwr.models.layers import linear_relu
from fedhpro_flwr.models.model import Model, ModelShape, model

DEFAULT_WIDTH = 64


@model("mlp")
def mlp(shape: ModelShape) -> Model:
    """Flatten, then twice linear-ReLU of D units, then the head; features are non-negative.

    Raises:
        ValueError: the inputs are text.
    """
    width = shape.width or DEFAULT_WIDTH
    encoder = nn.Sequential(nn.Flatten(), *linear_relu(shape.numbers("mlp"), width), *linear_relu(width, width))
    return Model(encoder, nn.Linear(width, shape.num_classes))
