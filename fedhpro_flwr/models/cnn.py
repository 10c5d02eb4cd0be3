"""`cnn`: a small convolutional net for 8x8 to 32x32 images, made to train fast on one CPU core."""

from __future__ import annotations

from torch import nn

from fedhpro_flwr.models.layers import conv_bn
from fedhpro_flwr.models.model import Model, ModelShape, model

DEFAULT_WIDTH = 64
SMALLEST_SIDE = 5  # the last batch norm then sees 2x2 pixels, so a batch of one image can still be trained on


@model("cnn")
def cnn(shape: ModelShape) -> Model:
    """Three conv-BN-ReLU blocks of 16, 32 and D channels, the mean over pixels, the head; features are >= 0.

    Blocks two and three halve the image, and so does the first one, on which most of the time would be spent, if
    the image has 16 pixels a side or more.

    Raises:
        ValueError: the inputs are vectors, or smaller than 5x5 pixels.
    """
    channels, height, columns = shape.image("cnn", SMALLEST_SIDE)
    width = shape.width or DEFAULT_WIDTH
    first_stride = 2 if min(height, columns) >= 16 else 1
    encoder = nn.Sequential(
        *conv_bn(channels, 16, stride=first_stride),
        nn.ReLU(inplace=True),
        *conv_bn(16, 32, stride=2),
        nn.ReLU(inplace=True),
        *conv_bn(32, width, stride=2),
        nn.ReLU(inplace=True),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),  # [B, D]
    )
    return Model(encoder, nn.Linear(width, shape.num_classes))
