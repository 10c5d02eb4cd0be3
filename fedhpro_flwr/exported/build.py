"""The network that a model's file describes, with the file's tensors in it."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path

import torch
from torch import Tensor

from fedhpro_flwr.exported.description import ModelDescription
from fedhpro_flwr.first_difference import first_difference
from fedhpro_flwr.models import Model, build
from fedhpro_flwr.settings.flat_keys import ConfigError


def built(file: Path, described: ModelDescription, tensors: Mapping[str, Tensor], start: Path | None) -> Model:
    """The network in eval mode, on the CPU, its convolutions laid out channels_last as in the run.

    It is built without numbers, on torch's meta device, and compared with the file before memory is allocated: a file
    that claims a huge width costs nothing. All tensors that the file holds are then taken from it.

    Args:
        file: that was read, for messages.
        described: what the file says.
        tensors: that the file holds.
        start: the folder that the architecture is built from; None if it needs none.

    Raises:
        ConfigError: the architecture is unknown or cannot take such samples, or the tensors are not its own or hold
            numbers that are not finite.
    """
    try:
        # A pre-trained encoder is read from its folder, which the user vouches for, and overwritten.
        with nullcontext() if start else torch.device("meta"):
            model = _model(file, described, start)
    except (NotImplementedError, RuntimeError):  # a user's own builder that looks at its tensors' numbers
        model = _model(file, described, start)
    if difference := first_difference(model.state_dict(), tensors):
        raise ConfigError(
            f"{file}: its tensors are not those of a {described.architecture} for {described.takes} and "
            f"{len(described.class_names)} classes: {difference}; it is damaged, or of another release"
        )
    broken = next((name for name, tensor in tensors.items() if not bool(torch.isfinite(tensor).all())), None)
    if broken is not None:
        raise ConfigError(
            f"{file}: {broken} holds NaN or infinite numbers, so every prediction would be NaN; the file is "
            "damaged, or its run diverged"
        )
    if not start:
        model = _model(file, described, start)  # with numbers, because some may be in no file, as unsaved buffers
    model.load_state_dict(tensors)  # copied: of tied weights the last entry then counts, as in the run
    return model.eval().requires_grad_(False).to(memory_format=torch.channels_last)


def _model(file: Path, described: ModelDescription, start: Path | None) -> Model:
    try:
        return build(
            described.architecture,
            input_shape=described.input_shape,
            num_classes=len(described.class_names),
            width=described.width,
            vocabulary=described.vocabulary,
            path=str(start or ""),
            seed=0,
        )
    except ValueError as error:
        raise ConfigError(f"{file}: {error}") from error
