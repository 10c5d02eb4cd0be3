"""A client's whole model if its encoder stays with it: the shared head, and the encoder from the client's state."""

from __future__ import annotations

from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from fedhpro_flwr.client.personal import split_memory
from fedhpro_flwr.exported.build import built
from fedhpro_flwr.exported.description import ModelDescription
from fedhpro_flwr.exported.needed import found
from fedhpro_flwr.settings.flat_keys import ConfigError
from fedhpro_flwr.settings.named_counts import named_counts


def joined(
    file: Path, described: ModelDescription, head: dict[str, Tensor], state: Path, encoder: Path | None = None
) -> tuple[ModelDescription, dict[str, Tensor]]:
    """The model that the client tests after the run's last round, and the description for its file.

    Args:
        file: with the head, for messages.
        described: what that file says.
        head: W [C, D] and b [C].
        state: the client's `visit-<last round>-....safetensors`.
        encoder: the folder that the run's encoders were built from, if any; their weights come from the state.

    Raises:
        ConfigError: the state is damaged, holds no encoder, or one of an architecture that the run did not have; or the
            folder does not exist or is another one.
    """
    # A frozen encoder only computes the samples, and is not a part of the model.
    is_frozen = described.input_kind == "features"
    start = None if is_frozen else found(described.encoder, encoder, "--encoder", weights=False)
    try:
        own, _ = split_memory(load_file(state))
    except (OSError, SafetensorError) as error:
        raise ConfigError(f"--state {state} is damaged or no safetensors file ({error})") from None
    if not any(name.startswith("encoder.") for name in own):
        raise ConfigError(
            f"--state {state} holds no encoder; give the visit-<last round>-....safetensors of a client's state folder"
        )
    groups = named_counts(str(described.settings.get("model.groups", "")), "model.groups")
    tensors = {**own, **head}
    for architecture in groups or (described.architecture,):
        whole = described.model_copy(update={"holds": "model", "architecture": architecture})
        try:
            built(file, whole, tensors, start)
        except ConfigError as error:
            reason = error
        else:
            return whole, tensors
    raise ConfigError(f"--state {state} does not fit the head in {file}: {reason}")
