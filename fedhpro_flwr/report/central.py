"""The central model that prototypes are compared with: one network trained on all clients' data in one place."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.torch import load_file, save

from fedhpro_flwr.aggregation import class_mean
from fedhpro_flwr.class_means import ClassMeans
from fedhpro_flwr.client_data import ClientData
from fedhpro_flwr.config import ConfigError, RunConfig
from fedhpro_flwr.device import device_of, settle
from fedhpro_flwr.engine import federation
from fedhpro_flwr.features import encode
from fedhpro_flwr.front_doors import sibling
from fedhpro_flwr.initial_models import initial_models
from fedhpro_flwr.prototypes import Prototypes
from fedhpro_flwr.report.groups import compared
from fedhpro_flwr.seeding import Draws
from fedhpro_flwr.whole_file import write_whole

MOST_PASSES = 100  # over the pooled data; by then the network fits it, and its class means hardly move any more
TRAINED_BY = ("data.", "partition.", "model.", "local.")  # sections that say how a central model is trained


def passes_of(config: RunConfig) -> int:
    """The passes over its data of a client that takes part in every round, `MOST_PASSES` at most."""
    return min(config.rounds * config.local.epochs, MOST_PASSES)


def central_means(config: RunConfig, cache: Path) -> Prototypes:
    """Class means of the model that would have been trained on the data of all the run's clients in one place.

    It starts from the run's initial weights and trains with the run's local settings on the union of the clients'
    training data. The means are kept in `cache` under a name made of everything that they depend on, so that runs
    that differ only in their method share them.

    Args:
        config: of the run.
        cache: a folder that exists.

    Raises:
        ConfigError: the data cannot be had, or the run has several architectures.
    """
    path = cache / f"central-{_fingerprint(config)}.safetensors"
    try:
        kept = load_file(path)
        return Prototypes(kept["means"], kept["known"])
    except (FileNotFoundError, SafetensorError, KeyError):  # not there yet, or damaged: made anew
        found = train_centrally(config)
        write_whole(path, save({"means": found.vectors, "known": found.known}))
        return found


def train_centrally(config: RunConfig) -> Prototypes:
    """Train, then average the features of each class in eval mode.

    Raises:
        ConfigError: the data cannot be had, or the run has several architectures.
    """
    settle(config)
    divided = federation(config)
    models = initial_models(config, divided.data)
    if len(models) > 1:
        raise ConfigError(f"the run has {len(models)} architectures, each with features of its own")
    device = device_of(config)
    model = next(iter(models.values())).to(device)
    pooled = np.sort(np.concatenate(divided.parts.indices))
    data = ClientData(divided.data.train.subset(pooled), None, divided.data.mean, divided.data.std).to(device)
    draws, local = Draws(config.seed), config.local.model_copy(update={"epochs": passes_of(config)})
    with draws.torch_everywhere():
        sibling("client_app.visit").train(model, data, local, None, draws)
    z = encode(model, data.training.inputs, data.encoder_inputs)
    num_classes = divided.data.num_classes
    found = ClassMeans.of(z.cpu(), data.training.labels.cpu(), num_classes)
    return Prototypes(*class_mean([found.class_ids], [found.means], [found.counts], num_classes))


def _fingerprint(config: RunConfig) -> str:
    settings = {key: value for key, value in compared(config).items() if key.startswith(TRAINED_BY)}
    made_of = [settings, config.seed, passes_of(config), federation(config).data.content]
    text = json.dumps(made_of, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
