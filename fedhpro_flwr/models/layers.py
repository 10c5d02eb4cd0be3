"""Layers that several models have: linear-ReLU to the features, and conv-BN."""

from __future__ import annotations

from torch import nn


def linear_relu(inputs: int, width: int) -> tuple[nn.Module, nn.Module]:
    """The layers [B, inputs] -> [B, width]; its ReLU makes the features of all models non-negative."""
    return nn.Linear(inputs, width), nn.ReLU(inplace=True)


def project(features: int, width: int) -> tuple[nn.Module, ...]:
    """Linear-ReLU from an encoder's own features to `width`; none if that is 0 or the encoder has as many anyway.

    Clients whose encoders differ can share the head W [C, D] and the hyper-prototypes [C, K, D] only if all have the
    same D.
    """
    return linear_relu(features, width) if width not in (0, features) else ()


def conv_bn(inputs: int, outputs: int, size: int = 3, stride: int = 1, groups: int = 1) -> tuple[nn.Module, nn.Module]:
    """The layers [B, inputs, H, W] -> [B, outputs, H/stride, W/stride] with filters of `size` x `size` pixels.

    The conv has no bias: the batch norm that follows would cancel it.
    """
    conv = nn.Conv2d(inputs, outputs, size, stride, padding=size // 2, groups=groups, bias=False)
    return conv, nn.BatchNorm2d(outputs)
