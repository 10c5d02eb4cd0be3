"""`mobilenet`: a small MobileNetV2 (Sandler et al. 2018) for images of 5 to 64 pixels a side.

It has few multiplications rather than few layers: a phone among the clients would train such a model.
"""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn

from fedhpro_flwr.models.layers import conv_bn, project
from fedhpro_flwr.models.model import Model, ModelShape, model

STEM = 16
STAGES = ((1, 16, 1), (6, 24, 2), (6, 40, 3), (6, 80, 3))  # expansion, channels, blocks; as MobileNetV2 starts
FEATURES = 256
SMALLEST_SIDE = 5  # the last batch norm then sees 2x2 pixels, so a batch of one image can still be trained on
HALVED_THRICE = 9  # smaller images are halved only twice, for the same reason


@model("mobilenet")
def mobilenet(shape: ModelShape) -> Model:
    """A 3x3 stem, nine inverted residuals, a 1x1 conv, the mean over pixels (256 features, 0 to 6), the head.

    For a D other than 256 a linear-ReLU follows the mean. Stages two and three halve the image, and so does stage four
    if it has 9 pixels a side or more.

    Raises:
        ValueError: the inputs are no images, or smaller than 5x5 pixels.
    """
    channels, height, columns = shape.image("mobilenet", SMALLEST_SIDE)
    strides = (1, 2, 2, 2 if min(height, columns) >= HALVED_THRICE else 1)
    layers: list[nn.Module] = [*conv_bn(channels, STEM), nn.ReLU6(inplace=True)]
    inputs = STEM
    for (expansion, outputs, blocks), stride in zip(STAGES, strides, strict=True):
        for block in range(blocks):
            layers.append(InvertedResidual(inputs, outputs, stride if block == 0 else 1, expansion))
            inputs = outputs
    layers += [*conv_bn(inputs, FEATURES, 1), nn.ReLU6(inplace=True)]
    encoder = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), *project(FEATURES, shape.width))  # [B, D]
    return Model(encoder, nn.Linear(shape.width or FEATURES, shape.num_classes))


class InvertedResidual(nn.Module):
    """Widen by a 1x1 conv, filter each channel by a 3x3 conv, narrow by a 1x1 conv without an activation.

    `x` is added if the shape stays the same.
    """

    def __init__(self, inputs: int, outputs: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide = inputs * expansion
        widened = [*conv_bn(inputs, wide, 1), nn.ReLU6(inplace=True)] if expansion > 1 else []
        self.layers = nn.Sequential(
            *widened,
            *conv_bn(wide, wide, 3, stride, groups=wide),
            nn.ReLU6(inplace=True),
            *conv_bn(wide, outputs, 1),
        )
        self.keeps_shape = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        """[B, inputs, H, W] -> [B, outputs, H/stride, W/stride]."""
        y = cast(Tensor, self.layers(x))
        return x + y if self.keeps_shape else y
