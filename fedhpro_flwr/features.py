"""Features of samples under a model, for the methods and the report."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from fedhpro_flwr.models import Model

# Larger batches are no faster on a CPU core and cost memory: 500 images of 32x32 take 350 MB in a ResNet-10.
BATCH_SIZE = 128


@torch.no_grad()
def encode(model: Model, inputs: Tensor, prepare: Callable[[Tensor], Tensor]) -> Tensor:
    """Features z [N, D] of inputs that `prepare` normalises, in eval mode: BatchNorm keeps its running statistics."""
    model.eval()
    return torch.cat([model.encoder(prepare(chunk)) for chunk in torch.split(inputs, BATCH_SIZE)])
