"""Linear-ReLU from an encoder's own features to the D that all clients of a run share.

Clients whose encoders differ can share the head W [C, D] and the hyper-prototypes [C, K, D] only if all have the same
D. The ReLU makes the features non-negative, like those of the small models.
"""

from __future__ import annotations

from torch import nn

from fedhpro_flwr.models.model import Model, ModelShape, model

DEFAULT_WIDTH = 512


def project(features: int, width: int) -> tuple[nn.Module, ...]:
    """The layers [B, features] -> [B, width]; none if `width` is 0 or the encoder has that many features anyway."""
    return linear_relu(features, width) if width not in (0, features) else ()


def linear_relu(features: int, width: int) -> tuple[nn.Module, nn.Module]:
    """The layers [B, features] -> [B, width], whatever the two numbers are."""
    return nn.Linear(features, width), nn.ReLU(inplace=True)


@model("projection")
def projection(shape: ModelShape) -> Model:
    """One linear-ReLU of D units on vectors, such as the features of a frozen encoder, then the head.

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
