"""`resnet10`: the reference's residual net of ten layers, 32 to 256 channels, made for 32x32 images.

1,228,970 parameters for 3 channels and 10 classes. The reference carries a projection head that is never
trained and registers every layer twice; neither is here, so the state dict holds each tensor once.
"""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn

from fedhpro_flwr.models.model import Model, ModelShape, model

WIDTHS = (32, 64, 128, 256)
STRIDES = (1, 2, 2, 2)
SMALLEST_SIDE = 9  # the last batch norm then sees 2x2 pixels, so a batch of one image can still be trained on


class BasicBlock(nn.Module):
    """relu(conv-BN-relu-conv-BN(x) + shortcut(x)); the shortcut is a 1x1 conv-BN where the shape changes."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.shortcut = nn.Sequential()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """[B, inputs, H, W] -> [B, outputs, H/stride, W/stride]."""
        y = self.relu(self.bn1(self.conv1(x)))
        return cast(Tensor, self.relu(self.bn2(self.conv2(y)) + self.shortcut(x)))


@model("resnet10")
def resnet10(shape: ModelShape) -> Model:
    """conv-BN-ReLU, four basic blocks, the mean over pixels (D = 256, non-negative), the head.

    Raises:
        ValueError: the inputs are vectors or smaller than 9x9 pixels, or another width than 256 is asked for.
    """
    channels, _, _ = shape.image("resnet10", SMALLEST_SIDE)
    if shape.width not in (0, WIDTHS[-1]):
        raise ValueError(f"model.width = {shape.width}: resnet10 always has 256 features; allowed are 256 and 0")
    layers: list[nn.Module] = [
        nn.Conv2d(channels, WIDTHS[0], 3, 1, 1, bias=False),
        nn.BatchNorm2d(WIDTHS[0]),
        nn.ReLU(inplace=True),
    ]
    inputs = WIDTHS[0]
    for outputs, stride in zip(WIDTHS, STRIDES, strict=True):
        layers.append(BasicBlock(inputs, outputs, stride))
        inputs = outputs
    encoder = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())  # [B, 256]
    return Model(encoder, nn.Linear(WIDTHS[-1], shape.num_classes))
