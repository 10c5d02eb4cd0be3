"""`projection`: one layer on vectors, such as the features of a frozen encoder."""

from __future__ import annotations

from torch import nn

from fedhpro_flwr.models.layers import linear_relu
from fedhpro_flwr.models.model import Model, ModelShape, model

DEFAULT_WIDTH = 512


@model("projection")
def projection(shape: ModelShape) -> Model:
    """One linear-ReLU of D units on vectors, then the head.

    Raises:
        ValueError: the inputs are images or text.
    """
    features = shape.numbers("projection")
    if len(shape.input_shape) != 1:
        raise ValueError(
            f"model 'projection' needs vectors [F], the data has shape {list(shape.input_shape)}; "
            "'mlp' takes images, and data.weights makes vectors of them where the data set has it"
        )
    width = shape.width or DEFAULT_WIDTH
    return Model(nn.Sequential(*linear_relu(features, width)), nn.Linear(width, shape.num_classes))
