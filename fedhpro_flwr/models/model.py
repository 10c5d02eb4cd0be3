"""What every model is: an encoder from inputs to features and a linear head from features to logits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import cast

from torch import Tensor, nn

from fedhpro_flwr.registry import Registry


class Model(nn.Module):
    """encoder: x -> z [B, D]; head: z -> logits [B, C]; forward(x) = head(encoder(x)).

    Args:
        encoder: any module that returns features [B, D].
        head: the linear classifier on those features.

    Raises:
        ValueError: the head is another module, or a subclass has its own `forward`: the equations assume W z + b.
    """

    def __init__(self, encoder: nn.Module, head: nn.Linear) -> None:
        super().__init__()
        if not isinstance(head, nn.Linear):
            raise ValueError(
                f"the head of a model must be an nn.Linear, got {type(head).__name__}; put other layers in the encoder"
            )
        for part, base in ((self, Model), (head, nn.Linear)):
            if type(part).forward is not base.forward:
                raise ValueError(
                    f"{type(part).__name__} has a forward of its own, which the method would pass over: a model is "
                    "head(encoder(x)) with a head W z + b; put what it does in the encoder"
                )
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
        """Logits [B, C] of inputs [B, ch, H, W], [B, F] or [B, L]."""
        return cast(Tensor, self.head(self.encoder(x)))


@dataclass(frozen=True)
class ModelShape:
    """What a model is built for.

    Args:
        input_shape: of one sample, (ch, H, W), (F,), or (L,) for text.
        num_classes: C.
        width: D; 0 means the model's own default.
        vocabulary: how many token ids there are, for text; 0 for anything else.
        path: the file or folder that a builder with `reads_path` builds from.
    """

    input_shape: tuple[int, ...]
    num_classes: int
    width: int = 0
    vocabulary: int = 0
    path: str = ""

    def numbers(self, name: str) -> int:
        """How many numbers a sample has, if it is a vector or an image.

        Raises:
            ValueError: the input is text.
        """
        if self.vocabulary:
            raise ValueError(f"model {name!r} needs images or vectors, the data is text")
        return prod(self.input_shape)

    def tokens(self, name: str) -> tuple[int, int]:
        """Length L of a text and size of the vocabulary.

        Raises:
            ValueError: the input is no text.
        """
        if not self.vocabulary:
            raise ValueError(f"model {name!r} needs text, the data has shape {list(self.input_shape)}")
        return self.input_shape[0], self.vocabulary

    def image(self, name: str, smallest: int) -> tuple[int, int, int]:
        """The input shape as (ch, H, W).

        Raises:
            ValueError: the input is a vector, or a side is shorter than `smallest` pixels.
        """
        if len(self.input_shape) != 3:
            kind, other = f"has shape {list(self.input_shape)}", "'mlp' takes vectors"
            if self.vocabulary:
                kind, other = "is text", "'fasttext' takes it"
            raise ValueError(f"model.name = {name!r}: it needs images [ch, H, W], the data {kind}; {other}")
        channels, height, width = self.input_shape
        if min(height, width) < smallest:
            raise ValueError(
                f"model {name!r} needs images of at least {smallest}x{smallest} pixels, the data has {height}x{width}"
            )
        return channels, height, width


Builder = Callable[[ModelShape], Model]

MODELS: Registry[Builder] = Registry("model.name")
READS_PATH: set[str] = set()  # names of the builders that read `shape.path` themselves


def model(name: str, *, reads_path: bool = False) -> Callable[[Builder], Builder]:
    """Decorator: the builder makes the model `name`.

    Args:
        name: the value of `model.name` that chooses it.
        reads_path: whether it is built from what lies at `model.path`. Other models are built without it, and then
            begin with the weights of the model file at `model.path`, if that is set.

    Raises:
        ConfigError: the name is taken.
    """

    def add(builder: Builder) -> Builder:
        MODELS.register(name)(builder)
        if reads_path:
            READS_PATH.add(name)
        return builder

    return add
