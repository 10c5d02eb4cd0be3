"""What every model is: an encoder from inputs to features and a linear head from features to logits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

from torch import Tensor, nn

from fedhpro_flwr.registry import Registry


class Model(nn.Module):
    """encoder: x -> z [B, D]; head: z -> logits [B, C]; forward(x) = head(encoder(x)).

    Args:
        encoder: any module that returns features [B, D].
        head: the linear classifier on those features.
    """

    def __init__(self, encoder: nn.Module, head: nn.Linear) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = head

    @property
    def width(self) -> int:
        """D, the number of features."""
        return self.head.in_features

    @property
    def num_classes(self) -> int:
        """C."""
        return self.head.out_features

    def forward(self, x: Tensor) -> Tensor:
        """Logits [B, C] of inputs [B, ch, H, W] or [B, F]."""
        return cast(Tensor, self.head(self.encoder(x)))


@dataclass(frozen=True)
class ModelShape:
    """What a model is built for.

    Args:
        input_shape: of one sample, (ch, H, W) or (F,).
        num_classes: C.
        width: D; 0 means the model's own default.
    """

    input_shape: tuple[int, ...]
    num_classes: int
    width: int = 0

    def image(self, name: str, smallest: int) -> tuple[int, int, int]:
        """The input shape as (ch, H, W).

        Raises:
            ValueError: the input is a vector, or a side is shorter than `smallest` pixels.
        """
        if len(self.input_shape) != 3:
            raise ValueError(f"model {name!r} needs images [ch, H, W], the data has shape {list(self.input_shape)}")
        channels, height, width = self.input_shape
        if min(height, width) < smallest:
            raise ValueError(
                f"model {name!r} needs images of at least {smallest}x{smallest} pixels, the data has {height}x{width}"
            )
        return channels, height, width


Builder = Callable[[ModelShape], Model]

MODELS: Registry[Builder] = Registry("model.name")
model = MODELS.register
