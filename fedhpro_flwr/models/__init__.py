"""Models: an encoder and a linear head, built by name from a seed.

A new model is a function `ModelShape -> Model` under the decorator `@model("name")`.
"""

from __future__ import annotations

import torch

from fedhpro_flwr.models import (  # noqa: F401  they register themselves
    cnn,
    fasttext,
    hf_encoder,
    mlp,
    mobilenet,
    projection,
    resnet,
    text_cnn,
    text_transformer,
    vit,
)
from fedhpro_flwr.models.built import refuse_other_features, refuse_unbuilt
from fedhpro_flwr.models.model import MODELS, READS_PATH, Builder, Model, ModelShape, model

__all__ = [
    "MODELS",
    "READS_PATH",
    "Builder",
    "Model",
    "ModelShape",
    "build",
    "model",
    "refuse_other_features",
]


def build(
    name: str,
    *,
    input_shape: tuple[int, ...],
    num_classes: int,
    width: int = 0,
    vocabulary: int = 0,
    path: str = "",
    seed: int,
) -> Model:
    """Build model `name` on the CPU with weights drawn from `seed`; the global generator is left as it was.

    Args:
        name: a registered name.
        input_shape: of one sample, (ch, H, W), (F,), or (L,) for text.
        num_classes: C.
        width: D, the number of features; 0 means the model's own default.
        vocabulary: how many token ids there are, for text; 0 for anything else.
        path: the file or folder that a builder with `reads_path` builds from.
        seed: the same seed gives the same weights bit by bit.

    Raises:
        ValueError: an unknown name, a shape or width the model cannot have, or a builder that returned something else.
    """
    builder = MODELS.find(name)
    if num_classes < 2:
        raise ValueError(f"a model needs at least 2 classes, got {num_classes}")
    if width < 0:
        raise ValueError(f"model.width = {width}: it must be 0 (the model's default) or larger")
    if len(input_shape) not in (1, 3) or min(input_shape) < 1:
        raise ValueError(f"a sample must have shape (ch, H, W), (F,) or (L,), got {tuple(input_shape)}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        shape = ModelShape(tuple(input_shape), num_classes, width, vocabulary, path)
        return refuse_unbuilt(builder(shape), name, shape)
