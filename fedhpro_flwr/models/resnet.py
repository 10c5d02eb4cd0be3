"""`resnet10`, `resnet18`: residual nets made for 32x32 images, with a 3x3 stem that keeps the size.

resnet10 is the reference's: 32 to 256 channels, 1,228,970 parameters for 3 channels and 10 classes. The reference
carries a projection head that is never trained and registers every layer twice; neither is here, so the state dict
holds each tensor once. resnet18 has the 64 to 512 channels and the two blocks per stage of He et al. 2016, 11,173,962
parameters.
"""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn

from fedhpro_flwr.models.layers import conv_bn, project
from fedhpro_flwr.models.model import Model, ModelShape, model

STRIDES = (1, 2, 2, 2)  # of the first block of each stage
SMALLEST_SIDE = 9  # the last batch norm then sees 2x2 pixels, so a batch of one image can still be trained on


class BasicBlock(nn.Module):
    """relu(conv-BN-relu-conv-BN(x) + shortcut(x)); the shortcut is a 1x1 conv-BN where the shape changes."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = conv_bn(inputs, outputs, stride=stride)
        self.conv2, self.bn2 = conv_bn(outputs, outputs)
        same = stride == 1 and inputs == outputs
        self.shortcut = nn.Sequential(*(() if same else conv_bn(inputs, outputs, 1, stride)))
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """[B, inputs, H, W] -> [B, outputs, H/stride, W/stride]."""
        y = self.relu(self.bn1(self.conv1(x)))
        return cast(Tensor, self.relu(self.bn2(self.conv2(y)) + self.shortcut(x)))


@model("resnet10")
def resnet10(shape: ModelShape) -> Model:
    """conv-BN-ReLU, four basic blocks, the mean over pixels (256 features, non-negative), the head.

    For a D other than 256 a linear-ReLU follows the mean.

    Raises:
        ValueError: the inputs are no images, or smaller than 9x9 pixels.
    """
    return _residual("resnet10", shape, widths=(32, 64, 128, 256), blocks=1)


@model("resnet18")
def resnet18(shape: ModelShape) -> Model:
    """conv-BN-ReLU, eight basic blocks, the mean over pixels (512 features, non-negative), the head.

    For a D other than 512 a linear-ReLU follows the mean.

    Raises:
        ValueError: the inputs are no images, or smaller than 9x9 pixels.
    """
    return _residual("resnet18", shape, widths=(64, 128, 256, 512), blocks=2)


def _residual(name: str, shape: ModelShape, widths: tuple[int, int, int, int], blocks: int) -> Model:
    channels, _, _ = shape.image(name, SMALLEST_SIDE)
    layers: list[nn.Module] = [*conv_bn(channels, widths[0]), nn.ReLU(inplace=True)]
    inputs = widths[0]
    for outputs, stride in zip(widths, STRIDES, strict=True):
        for block in range(blocks):
            layers.append(BasicBlock(inputs, outputs, stride if block == 0 else 1))
            inputs = outputs
    encoder = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), *project(inputs, shape.width))  # [B, D]
    return Model(encoder, nn.Linear(shape.width or inputs, shape.num_classes))
