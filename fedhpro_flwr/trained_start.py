"""A model that begins with trained weights: `model.path` is a model file such as every run leaves."""

from __future__ import annotations

from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file

from fedhpro_flwr.exported.description import model_file
from fedhpro_flwr.first_difference import first_difference
from fedhpro_flwr.home_folder import expanded
from fedhpro_flwr.models import Model
from fedhpro_flwr.printable import one_line
from fedhpro_flwr.settings.flat_keys import ConfigError


def start_from(model: Model, named: str, architecture: str) -> None:
    """Give a new model the weights of a model file.

    Args:
        model: the run's; all its tensors are overwritten.
        named: `model.path`, a safetensors file with these tensors or the folder of a finished run.
        architecture: what the model is called in messages.

    Raises:
        ConfigError: there is no such file, or it cannot be read, has other tensors, or has numbers that are not finite.
    """
    try:
        tensors = load_file(weights_file(named, architecture))
    except ConfigError as error:
        raise ConfigError(f"model.path: {error}") from None
    except (OSError, SafetensorError) as error:
        raise ConfigError(
            f"model.path = {named!r} is damaged or no safetensors file ({one_line(error)}); a builder that reads "
            "model.path by itself says reads_path=True"
        ) from None
    if difference := first_difference(model.state_dict(), tensors):
        raise ConfigError(
            f"model.path = {named!r} holds other weights than a {architecture} of this run has: {difference}"
        )
    for name, tensor in sorted(tensors.items()):
        if not bool(tensor.isfinite().all()):
            raise ConfigError(f"model.path = {named!r}: {name} holds NaN or infinite numbers; its run diverged")
    model.load_state_dict(tensors)


def weights_file(named: str, architecture: str) -> Path:
    """The model file that `model.path` names: the file itself, or in a run's folder the one of this architecture.

    Raises:
        ConfigError: there is none.
    """
    path = expanded(named)
    own = path / f"model-{architecture}.safetensors"  # as runs with an encoder for each architecture leave them
    return own if own.is_file() else model_file(path)
