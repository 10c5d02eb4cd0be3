"""Files that a model needs beside its own: those of a frozen or pre-trained encoder, or a tokenizer's folder.

They can be large and have licences of their own, so they are not copied into the model's file. Whoever predicts says
where they lie, and their content is compared: a path in a file that came from elsewhere is never followed.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from fedhpro_flwr.data.picture_features import content_hash
from fedhpro_flwr.exported.description import Needed
from fedhpro_flwr.home_folder import expanded
from fedhpro_flwr.settings.flat_keys import ConfigError

WEIGHTS = (".safetensors", ".bin", ".pth", ".pt", ".h5", ".msgpack", ".onnx")


def needed(path: Path, *, weights: bool = True) -> Needed:
    """The name and the hash of a file or folder; no hash if it is not here, because only the clients have it.

    Args:
        path: of the file or folder.
        weights: whether weights in a folder count, or only its other files (the weights of an encoder that was trained
            further are in the model's file; a tokenizer has none).
    """
    if not path.exists():
        return Needed(name=path.name)
    if weights or not path.is_dir():
        return Needed(name=path.name, sha256=content_hash(path))
    parts = [
        f"{file.name} {content_hash(file)}\n"
        for file in sorted(path.iterdir())
        if file.is_file() and not file.name.startswith(".") and not file.name.endswith((*WEIGHTS, ".index.json"))
    ]
    return Needed(name=path.name, sha256=hashlib.sha256("".join(parts).encode()).hexdigest())


def found(wanted: Needed | None, given: str | Path | None, option: str, *, weights: bool) -> Path | None:
    """The path of what a model needs, as its user gives it, after a check; None if the model needs nothing.

    Args:
        wanted: what the model's file says.
        given: the path that the user gives.
        option: the option for it, for messages.
        weights: as for `needed`.

    Raises:
        ConfigError: the path is missing or not wanted, nothing is there, or its content is not what the run used.
    """
    if wanted is None:
        if given is not None:
            raise ConfigError(f"{option} {given}: this model needs none; leave it out")
        return None
    if given is None:
        raise ConfigError(f"the model needs {wanted.name}, which its run used; say where it lies by {option}")
    path = expanded(given)
    if not path.exists():
        raise ConfigError(f"{option} {given} does not exist; give the place of {wanted.name}")
    if wanted.sha256 and needed(path, weights=weights).sha256 != wanted.sha256:
        raise ConfigError(f"{option} {given} has another content than {wanted.name}, which the model was trained with")
    return path
