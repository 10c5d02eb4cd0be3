"""Checks, before anything starts, that what the settings choose by name exists and works with the other settings."""

from __future__ import annotations

from fedhpro_flwr.config import RunConfig
from fedhpro_flwr.data import DATA_SETS
from fedhpro_flwr.data.own_format import own_reader
from fedhpro_flwr.data.registry import refuse_unused
from fedhpro_flwr.methods import METHODS
from fedhpro_flwr.models import MODELS
from fedhpro_flwr.tracking import chosen_trackers


def check_names(config: RunConfig) -> None:
    """Find every name in its registry, and let what it names check the other settings.

    Raises:
        ConfigError: a data set, model, method or tracker of that name does not exist, and the message lists those that
            do; the data set ignores a setting, or the method cannot work with one; or the library of a tracker is not
            installed.
    """
    DATA_SETS.find(config.data.name)
    if config.partition.at_nodes:
        own_reader(config.data.name)
    refuse_unused(config.data)
    for architecture in (config.model.name, *config.model.group_sizes):
        MODELS.find(architecture)
    METHODS.find(config.method.name).refuse(config)
    chosen_trackers(config.trackers)
