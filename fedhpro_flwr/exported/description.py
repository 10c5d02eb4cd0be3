"""What a model's file says of itself: the metadata of model.safetensors, JSON with all that prediction needs.

Reading it executes nothing: the JSON is checked against `ModelDescription` and the tensors against the architecture
that it names, and there are no paths in it.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from safetensors import SafetensorError
from torch import Tensor

from fedhpro_flwr.data.declared import class_name
from fedhpro_flwr.settings.flat_keys import ConfigError, Scalar
from fedhpro_flwr.settings.section import Count, Threads, Width
from fedhpro_flwr.tensor_file import file_content, read_tensors

# One key, because safetensors writes several in any order, and equal runs are to give equal files.
KEY = "fedhpro-model"
MODEL_FILES = "model*.safetensors"  # in a run's folder; one for each architecture if encoders are averaged in groups
MOST_NUMBERS = 2**26  # of a sample, so that no file can make its reader allocate terabytes

InputKind = Literal["uint8-images", "float-images", "vectors", "features", "text"]


class Part(BaseModel):
    """Frozen, strict (of exactly the declared types), without unknown keys, and with finite numbers, like settings."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Needed(Part):
    """A file or folder beside the model's file without which it cannot predict.

    Args:
        name: what the run called it, without the folder it lay in.
        sha256: of its content, see `exported/needed.py`; "" if the run's server did not have it.
    """

    name: str
    sha256: Annotated[str, Field(pattern="^([0-9a-f]{64})?$")] = ""


class ModelDescription(Part):
    """A model, what it takes, and where it comes from.

    Args:
        format: of this description.
        holds: the whole model, or only its head if the encoders stay with the clients.
        architecture: a registered name, see `MODELS`.
        width: `model.width` of the run; 0 is the architecture's own default.
        input_kind: what a sample was in training. `features` are those that a frozen encoder computes from pictures.
            Images to be predicted may have the other type, uint8 or float, than those of training.
        input_shape: of a sample: (ch, H, W), (F,), or (L,) for text.
        class_names: one name a class id.
        mean, std: normalisation per channel of samples scaled to [0, 1].
        vocabulary: of text, how many token ids there are; 0 for anything else.
        tokenizer: the folder of a text's tokenizer; None for the hashing one.
        encoder: the frozen encoder that makes the features, or the folder that the architecture is built from.
        head: the averaged one, or the calibrated one that the run tested in place of it.
        accuracy: share of the run's test data whose class the model found after the last round, or of its validation
            data if `settings` have a data.validation-share; None if it was not tested.
        batch_size: of that test; the same batches give the same bits.
        threads: of the run's processes; the same number gives the same bits.
        settings: of the run, without those that say where things lie.
        code: fingerprint of the sources.
        versions: of the packages that matter.
    """

    format: Literal[1] = 1
    holds: Literal["model", "head"] = "model"
    architecture: str
    width: Width
    input_kind: InputKind
    input_shape: tuple[Count, ...]
    class_names: Annotated[tuple[str, ...], Field(min_length=2)]
    mean: tuple[float, ...]
    std: tuple[Annotated[float, Field(gt=0)], ...]
    vocabulary: Annotated[int, Field(ge=0, le=2**31)] = 0
    tokenizer: Needed | None = None
    encoder: Needed | None = None
    head: Literal["averaged", "calibrated"] = "averaged"
    accuracy: float | None = None
    batch_size: Count = 512
    threads: Threads = 1
    settings: dict[str, Scalar] = Field(default_factory=dict)
    code: str = ""
    versions: dict[str, str] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        channels = self.input_shape[0] if self.is_image else 1
        if len(self.input_shape) != (3 if self.is_image else 1) or prod(self.input_shape) > MOST_NUMBERS:
            raise ValueError(f"{self.input_kind} of shape {list(self.input_shape)}")
        if len(self.mean) != channels or len(self.std) != channels:
            raise ValueError(f"mean and std of {len(self.mean)} and {len(self.std)} numbers for {channels} channels")
        if (self.vocabulary > 0) != (self.input_kind == "text"):
            raise ValueError("a vocabulary and text belong together")
        return self

    @property
    def is_image(self) -> bool:
        """Whether a sample is an image [ch, H, W]."""
        return self.input_kind in ("uint8-images", "float-images")

    @property
    def takes(self) -> str:
        """What a sample is, for messages."""
        if self.input_kind == "text":
            return f"texts (of which it reads {self.input_shape[0]} tokens)"
        if self.input_kind == "features":
            return "pictures, through its frozen encoder"
        if self.input_kind == "vectors":
            return f"vectors of {self.input_shape[0]} numbers"
        channels, height, width = self.input_shape
        of_pixels = f"images of {width}x{height} pixels"
        return {1: f"grey {of_pixels}", 3: f"colour {of_pixels}"}.get(channels, f"{of_pixels} in {channels} channels")

    def named(self, written: str) -> int | None:
        """The class id of a class's name; None if no class is called so."""
        return next((self.class_names.index(n) for n in (written, class_name(written)) if n in self.class_names), None)

    def numbered(self, written: str) -> int | None:
        """The class id that is written as a number; None for anything else."""
        digits = written.lstrip("0") or written[-1:]
        is_number = written.isascii() and written.isdigit() and len(digits) <= len(str(len(self.class_names)))
        return int(digits) if is_number and int(digits) < len(self.class_names) else None


def model_bytes(tensors: Mapping[str, Tensor], described: ModelDescription | None) -> bytes:
    """The content of a model's file."""
    metadata = None if described is None else {KEY: described.model_dump_json()}
    return file_content(tensors, metadata)


def model_file(path: Path) -> Path:
    """The model file at a path, or in the run's folder at a path.

    Raises:
        ConfigError: nothing is there, or the run left no model, or several, one for each architecture.
    """
    if not path.exists():
        raise ConfigError(f"{path} does not exist; give a model.safetensors or the folder of a finished run")
    if not path.is_dir():
        return path
    files = sorted(path.glob(MODEL_FILES))
    if not files:
        raise ConfigError(
            f"{path} holds no model.safetensors: the run has not finished, or with model.share = 'nothing' and "
            "method.name = 'local' every model stays with its client"
        )
    if len(files) > 1:
        raise ConfigError(f"{path} holds a model of each architecture, name one: {', '.join(f.name for f in files)}")
    return files[0]


def read_model(path: Path) -> tuple[ModelDescription, dict[str, Tensor]]:
    """The description and the tensors of a model's file.

    Raises:
        ConfigError: it is damaged, or does not say how to predict with it.
    """
    try:
        tensors, metadata = read_tensors(path)
    except (OSError, SafetensorError) as error:
        raise ConfigError(f"{path} is damaged or no safetensors file ({error})") from None
    if KEY not in metadata:
        raise ConfigError(
            f"{path} does not say what its model takes: give a run's model.safetensors, or the run's folder; that of "
            "an old version, which does not say it either, must be run again"
        )
    try:
        return ModelDescription.model_validate_json(metadata[KEY]), tensors
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ConfigError(
            f"{path}: what it says of its model cannot be used ({where or 'description'}: {first['msg']}); "
            "it is damaged or of another release"
        ) from None
