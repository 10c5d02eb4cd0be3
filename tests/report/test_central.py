"""Central class means: of which samples, from which start, and kept for the runs that share them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from fedhpro_flwr import engine
from fedhpro_flwr.config import ConfigError, RunConfig
from fedhpro_flwr.engine import federation
from fedhpro_flwr.initial_models import initial_model
from fedhpro_flwr.models import MODELS, Model
from fedhpro_flwr.report import central
from fedhpro_flwr.report.central import MOST_PASSES, central_means, passes_of, train_centrally

SMALL = {
    "rounds": 2, "local.epochs": 1, "data.train-limit": 120, "partition.num-partitions": 3, "model.name": "mlp",
    "model.width": 8,
}  # fmt: skip


def test_as_many_passes_as_a_client_makes_up_to_the_cap():
    assert passes_of(RunConfig.parse(rounds=7, local__epochs=3)) == 21
    assert passes_of(RunConfig.parse(rounds=100, local__epochs=10)) == MOST_PASSES


def test_without_training_the_means_are_those_of_the_initial_model(monkeypatch):
    epochs = []
    monkeypatch.setattr("client_app.visit.train", lambda model, data, local, *_: epochs.append(local.epochs))
    config = RunConfig.parse(SMALL)
    found = train_centrally(config)
    assert epochs == [2]  # all of the run's, at once
    data = federation(config).data
    model = initial_model(config, data).eval()
    ids = torch.from_numpy(np.concatenate(federation(config).parts.indices))
    split = data.train.subset(ids)
    for label in range(data.num_classes):
        own = split.inputs[split.labels == label].double().div(255)
        mean, std = (torch.tensor(value).double()[:, None, None] for value in (data.mean, data.std))
        with torch.no_grad():
            z = model.double().encoder((own - mean) / std)
        torch.testing.assert_close(found.vectors[label].double(), z.mean(0), atol=1e-5, rtol=1e-4)
    assert found.known.all()


def test_training_moves_them_and_the_seed_decides_all():
    config = RunConfig.parse(SMALL)
    first, again = train_centrally(config), train_centrally(config)
    assert torch.equal(first.vectors, again.vectors)
    assert not torch.equal(first.vectors, train_centrally(RunConfig.parse(SMALL, seed=1)).vectors)


def test_the_seed_decides_what_dropout_draws(monkeypatch):
    def dropping(shape):
        layers = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.Dropout(0.5), nn.ReLU())
        return Model(layers, nn.Linear(8, shape.num_classes))

    monkeypatch.setitem(MODELS, "dropping", dropping)
    config = RunConfig.parse(SMALL, model__name="dropping")
    first, again = train_centrally(config), train_centrally(config)
    assert torch.equal(first.vectors, again.vectors)


def test_methods_share_what_is_kept_and_seeds_do_not(tmp_path, monkeypatch):
    first = central_means(RunConfig.parse(SMALL), tmp_path)
    assert len(list(tmp_path.iterdir())) == 1
    trained = []
    monkeypatch.setattr(central, "train_centrally", lambda config: trained.append(config.seed) or first)
    again = central_means(RunConfig.parse(SMALL, method__name="fedavg", losses__temperature=0.5), tmp_path)
    assert torch.equal(again.vectors, first.vectors)
    assert trained == []
    central_means(RunConfig.parse(SMALL, seed=4), tmp_path)
    for change in ({"local.lr": 0.01}, {"partition.num-partitions": 2}, {"data.train-limit": 110}):
        central_means(RunConfig.parse(SMALL | change), tmp_path)
    assert trained == [4, 0, 0, 0]


def test_a_damaged_file_is_made_anew(tmp_path):
    first = central_means(RunConfig.parse(SMALL), tmp_path)
    (path,) = tmp_path.iterdir()
    path.write_bytes(b"half")
    assert torch.equal(central_means(RunConfig.parse(SMALL), tmp_path).vectors, first.vectors)


def test_several_architectures_have_no_feature_space_in_common():
    config = RunConfig.parse(SMALL, model__groups="mlp=2, cnn=1", model__share="head")
    with pytest.raises(ConfigError, match="2 architectures, each with features of its own"):
        train_centrally(config)


def test_what_was_kept_for_other_samples_is_not_used(tmp_path, monkeypatch):
    def means(value):
        draw = np.random.default_rng(0)
        pixels = draw.integers(0, 255, (60, 4, 4), dtype=np.uint8)
        np.savez(tmp_path / "mine.npz", images=255 - pixels if value else pixels, labels=np.arange(60) % 3)
        monkeypatch.setattr(engine, "RESIDENT", engine.Resident())  # another process reads the file anew
        own = {"data.name": "npz", "data.path": str(tmp_path / "mine.npz"), "data.train-limit": 0}
        return central_means(RunConfig.parse(SMALL | own), tmp_path).vectors

    first, other = means(0), means(1)
    assert not torch.allclose(first, other)
    assert torch.equal(means(0), first)
    assert len(list(tmp_path.glob("central-*"))) == 2
