"""The models that a run begins with: drawn from its seed, or with the weights of a model file."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from fedhpro_flwr.config import ConfigError, RunConfig
from fedhpro_flwr.models import READS_PATH, Model, build
from fedhpro_flwr.seeding import Draws
from fedhpro_flwr.settings.declared_data import ShapedData
from fedhpro_flwr.settings.sections import Share


def initial_model(config: RunConfig, data: ShapedData, architecture: str = "") -> Model:
    """A new model for round 1: with weights from the run's seed, or those of the model file at `model.path`.

    If an architecture of the run is built from what lies at the path (`reads_path`), no other one uses the path.

    Raises:
        ConfigError: as `untrained_model`, or the file is not there or holds another model.
    """
    model, name = untrained_model(config, data, architecture), architecture or config.model.name
    if begins_trained(config):
        from fedhpro_flwr.trained_start import start_from  # not needed by a client that is sent its whole model

        start_from(model, config.model.path, name)
    return model


def begins_trained(config: RunConfig) -> bool:
    """Whether models begin with the weights of a model file."""
    return bool(config.model.path) and READS_PATH.isdisjoint(
        config.model.architectures(config.partition.num_partitions)
    )


def untrained_model(config: RunConfig, data: ShapedData, architecture: str = "") -> Model:
    """A new model with weights drawn from the run's seed, its convolutions laid out channels_last.

    Raises:
        ConfigError: the architecture is unknown or cannot take this data.
    """
    seed = Draws(config.seed).torch("model").initial_seed()
    try:
        model = build(
            architecture or config.model.name,
            input_shape=data.input_shape,
            num_classes=data.num_classes,
            width=config.model.width,
            vocabulary=data.vocabulary,
            path=config.model.path,
            seed=seed,
        )
    except ValueError as error:
        raise ConfigError(str(error)) from error
    return model.to(memory_format=torch.channels_last)


def initial_models(config: RunConfig, data: ShapedData, *, resumed: bool = False) -> dict[str, Model]:
    """An initial model of every architecture of the run, the first client's first.

    Args:
        config: the settings.
        data: what the models are to be trained on.
        resumed: their weights will come from a checkpoint: no file at `model.path` is read.

    Raises:
        ConfigError: as `initial_model`, or two architectures have features of different widths; the message names a
            client of each.
    """
    names = config.model.architectures(config.partition.num_partitions)
    make = untrained_model if resumed else initial_model
    models = {name: make(config, data, name) for name in dict.fromkeys(names)}
    for name, model in models.items():
        if model.width != models[names[0]].width:
            raise ConfigError(
                f"client {names.index(name)} ({name}) has features of width {model.width}, client 0 ({names[0]}) of "
                f"width {models[names[0]].width}; give every model the same width (model.width)"
            )
    return models


def encoders_of(share: Share, models: Mapping[str, Model]) -> dict[str, dict[str, Tensor]]:
    """Initial models of the groups whose encoders are averaged apart from each other; empty for one architecture."""
    if share != "group" or len(models) < 2:
        return {}
    # Copies: the server's test loads other weights into these models.
    return {name: {key: value.clone() for key, value in model.state_dict().items()} for name, model in models.items()}
