"""What the steps of an epoch of local training work on: which samples, and how they are augmented.

Everything random in an epoch is drawn on the CPU and goes to the device when the epoch begins. A copy in each step
would make the host wait until the device has done all earlier steps, and then the device wait for the host.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from fedhpro_flwr.client_data import ClientData
from fedhpro_flwr.data.augment import Crops, crop_and_flip_alike
from fedhpro_flwr.settings.sections import LocalOptions

# So many numbers are prepared at once on a GPU, which for small images is an epoch: asking it for the work of each
# batch takes longer than the work. A CPU's caches hold one batch.
AT_ONCE = 1 << 24
ONE_VALUE = "Expected more than 1 value per channel when training"  # how torch's message begins


def epoch(
    data: ClientData, local: LocalOptions, order: torch.Generator, augmentation: torch.Generator
) -> Iterator[tuple[Tensor, Tensor]]:
    """The batches of one epoch, every training sample once: x [B, ...], normalised and augmented, and labels [B].

    Args:
        data: the client's own.
        local: `local.*`.
        order, augmentation: CPU generators; each epoch goes on from where the one before left them.

    Raises:
        ValueError: the client has no training data.
    """
    train = data.training
    drawn = torch.randperm(len(train), generator=order)  # [n]
    augments = local.augment != "none" and train.inputs.ndim == 4
    together = local.batch_size * _batches_at_once(data, local)  # samples
    crops = None
    if augments and local.augment == "per-sample":
        each = [
            Crops.draw(len(chosen), flip=local.flip, generator=augmentation)
            for chosen in torch.split(drawn, local.batch_size)
        ]
        crops = Crops.joined(each).to(data.device).split(together)
    for chosen in torch.split(drawn.to(data.device), together):  # [some B]
        inputs, labels = data.encoder_inputs(train.inputs[chosen]), train.labels[chosen]
        if crops is not None:
            inputs = next(crops).cut(inputs)
        parts = (torch.split(each, local.batch_size) for each in (inputs, labels))
        for x, own in zip(*parts, strict=True):
            if augments and crops is None:  # three numbers are drawn for a whole batch, and they stay on the host
                x = crop_and_flip_alike(x, flip=local.flip, generator=augmentation)
            yield x, own


def _batches_at_once(data: ClientData, local: LocalOptions) -> int:
    if data.device.type == "cpu":
        return 1
    return max(1, AT_ONCE // (local.batch_size * data.training.inputs[0].numel()))


@contextmanager
def lone_sample_explained(samples: int, local: LocalOptions) -> Iterator[None]:
    """Explain, in terms of the settings, the error of a BatchNorm that sees one value per channel.

    Raises:
        ValueError: the explanation, in place of the BatchNorm's error.
    """
    try:
        yield
    except ValueError as error:
        lone = local.batch_size == 1 or samples % local.batch_size == 1
        if not lone or not str(error).startswith(ONE_VALUE):
            raise
        raise ValueError(
            f"the model's BatchNorm cannot train on a batch of one sample, and {samples} samples at local.batch-size = "
            f"{local.batch_size} make one; choose another local.batch-size, or LayerNorm or GroupNorm in the model"
        ) from None
