"""What a run writes into its models' files, so that they can predict without the run, as its own test did."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from torch import Tensor

from fedhpro_flwr import __version__
from fedhpro_flwr.code_fingerprint import code_fingerprint
from fedhpro_flwr.config import ConfigError, RunConfig
from fedhpro_flwr.exchange import GlobalModel
from fedhpro_flwr.exported.description import InputKind, ModelDescription, Needed
from fedhpro_flwr.exported.needed import needed
from fedhpro_flwr.head import HEAD_BIAS, HEAD_WEIGHT, Head, with_head
from fedhpro_flwr.home_folder import expanded
from fedhpro_flwr.initial_models import begins_trained
from fedhpro_flwr.methods import build_method
from fedhpro_flwr.runs.resume import FREE
from fedhpro_flwr.settings.declared_data import ShapedData
from fedhpro_flwr.settings.flat_keys import Scalar
from fedhpro_flwr.settings.places import HASHING, MADE_ABSOLUTE, STATE_FOLDER, UNCOUNTED, WEIGHTS

PACKAGES = ("flwr", "torch")
AVERAGED_HEAD_WEIGHT, AVERAGED_HEAD_BIAS = "averaged-head-weight", "averaged-head-bias"


def with_tested_head(
    model: GlobalModel, state: Mapping[str, Tensor], head: Head | None
) -> tuple[GlobalModel, dict[str, Tensor]]:
    """The model as it was tested: with its own head, or with the calibrated head that was tested in place of it.

    Args:
        model: as it was averaged.
        state: the method's tensors.
        head: the calibrated one; None for the model's own.

    Returns:
        The model, and the method's tensors, with the averaged head among them if it is no longer in the model.
    """
    if head is None:
        return model, dict(state)
    averaged = {
        AVERAGED_HEAD_WEIGHT: model.shared[HEAD_WEIGHT],
        AVERAGED_HEAD_BIAS: model.shared[HEAD_BIAS],
    }
    return model.with_shared(with_head(model.shared, head)), {**state, **averaged}


def describe(config: RunConfig, data: ShapedData, groups: Sequence[str]) -> dict[str, ModelDescription]:
    """The description of each group's model before the first round, when nothing can be lost yet.

    Args:
        config: the settings of the run.
        data: what the models are to be trained on.
        groups: of the global model; one, named "", if there are none.

    Raises:
        ConfigError: a file or folder that the model is built from cannot be read.
    """
    has_tokenizer = data.vocabulary > 0 and config.data.tokenizer != HASHING
    first = config.model.architectures(config.partition.num_partitions)[0]
    try:
        encoder = _encoder(config)
        tokenizer = needed(expanded(config.data.tokenizer), weights=False) if has_tokenizer else None
    except OSError as error:
        raise ConfigError(f"what the model is built from cannot be read: {error}") from error
    return {
        group: ModelDescription(
            holds="model" if build_method(config).share in ("all", "group") else "head",
            architecture=group or first,
            width=config.model.width,
            input_kind=_kind(config, data),
            input_shape=data.input_shape,
            class_names=data.class_names,
            mean=data.mean,
            std=data.std,
            vocabulary=data.vocabulary,
            tokenizer=tokenizer,
            encoder=encoder,
            batch_size=config.evaluation.batch_size,
            threads=config.clients.threads,
            settings=portable(config),
            code=code_fingerprint(),
            versions={"fedhpro-flwr": __version__} | {package: version(package) for package in PACKAGES},
        )
        for group in groups
    }


def finished(
    descriptions: Mapping[str, ModelDescription], tested: Mapping[str, Any] | None, *, calibrated: bool
) -> dict[str, ModelDescription]:
    """The descriptions with what is known after the last round.

    Args:
        descriptions: as `describe` gave them.
        tested: `tested` of the last line of metrics.jsonl; None if the server tests nothing.
        calibrated: whether the head is the calibrated one.
    """
    head = "calibrated" if calibrated else "averaged"
    return {
        group: described.model_copy(update={"head": head, "accuracy": _accuracy(tested, group)})
        for group, described in descriptions.items()
    }


def portable(config: RunConfig) -> dict[str, Scalar]:
    """The settings that decide a run's results. A file has its bare name, not its place on the machine of the run."""
    dropped = FREE.difference({"rounds"}).union(UNCOUNTED, {STATE_FOLDER})
    if begins_trained(config):
        dropped |= {WEIGHTS}  # it may be a run's folder, and its weights are in the model
    return {
        key: Path(str(value)).name if key in MADE_ABSOLUTE else value
        for key, value in config.flat().items()
        if key not in dropped
    }


def _encoder(config: RunConfig) -> Needed | None:
    """The frozen encoder whose features are the samples, or the folder that the architecture is built from."""
    if config.data.weights:
        return needed(expanded(config.data.weights))
    start = expanded(config.model.path)
    built_from = config.model.path and not begins_trained(config) and start.exists()
    return needed(start, weights=False) if built_from else None


def _kind(config: RunConfig, data: ShapedData) -> InputKind:
    if data.vocabulary:
        return "text"
    if len(data.input_shape) == 3:
        return "float-images" if data.has_float_images else "uint8-images"
    return "features" if config.data.weights else "vectors"


def _accuracy(tested: Mapping[str, Any] | None, group: str) -> float | None:
    if tested is None:
        return None
    return float(tested["by_architecture"][group] if group else tested["accuracy"])
