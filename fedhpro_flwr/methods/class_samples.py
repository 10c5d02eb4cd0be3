"""The samples a client takes its class gradients on, if it does not take all (the reference: 100 per class)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fedhpro_flwr.client_data import ClientData
from fedhpro_flwr.data.dsa import dsa
from fedhpro_flwr.seeding import Draws
from fedhpro_flwr.settings.fedhpro_sections import ClassGradientOptions
from fedhpro_flwr.settings.flat_keys import ConfigError


@dataclass(frozen=True, eq=False)
class ClassSamples:
    """The samples of all classes and repeats, pooled."""

    inputs: Tensor  # normalised floats
    labels: Tensor  # [n]
    per_repeat: Tensor  # [C] samples of each class in one repeat, n_c


def refuse_augmented(options: ClassGradientOptions, *, images: bool) -> None:
    """Check that the samples can be augmented as the options ask.

    Raises:
        ConfigError: DSA is asked of inputs that are not images.
    """
    if options.augment == "dsa" and not images:
        raise ConfigError("class-gradients.augment = 'dsa' needs images; use 'none' for vectors and text")


def draw_class_samples(data: ClientData, num_classes: int, options: ClassGradientOptions, draws: Draws) -> ClassSamples:
    """For each repeat and class min(n_c, samples-per-class) samples; each such batch is augmented by one DSA draw.

    A loop over classes, as the reference does: this runs once a visit, over the classes the client holds.

    Raises:
        ValueError: the client has no training data.
        ConfigError: DSA is asked of inputs that are not images.
    """
    train = data.training
    refuse_augmented(options, images=train.inputs.ndim == 4)
    generator = draws.torch("class-samples")
    labels = train.labels
    inputs, chosen_labels = [], []
    for _ in range(options.repeats):
        for label in torch.unique(labels).tolist():
            of_class = (labels == label).nonzero().flatten()
            count = min(len(of_class), options.samples_per_class or len(of_class))
            chosen = of_class[torch.randperm(len(of_class), generator=generator)[:count].to(of_class.device)]
            batch = data.encoder_inputs(train.inputs[chosen])
            inputs.append(dsa(batch, generator) if options.augment == "dsa" else batch)
            chosen_labels.append(labels[chosen])
    drawn = torch.cat(chosen_labels)
    per_repeat = torch.bincount(drawn, minlength=num_classes) // options.repeats
    return ClassSamples(torch.cat(inputs), drawn, per_repeat)
