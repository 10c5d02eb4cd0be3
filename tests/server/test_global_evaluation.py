"""An encoder that tells nothing apart is told of, once; a model that merely names one class is not."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from fedhpro_flwr.accuracies import NO_BREAKDOWN
from fedhpro_flwr.client_data import ClientData
from fedhpro_flwr.config import RunConfig
from fedhpro_flwr.data import Split
from fedhpro_flwr.exchange import GlobalModel
from fedhpro_flwr.models import Model
from fedhpro_flwr.server import global_evaluation
from fedhpro_flwr.server.global_evaluation import server_test

TOLD = (
    "the encoder%s gives every test sample the same features, as one whose ReLUs are all dead does, and training will "
    "hardly mend it: lower local.lr or the weights of the losses, or raise model.width"
)


@pytest.fixture
def warned(monkeypatch):
    said = []
    monkeypatch.setattr(global_evaluation, "log", lambda level, message, *given: said.append(message % given))
    return said


def net(*, dead=False, one_class=False):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = Model(nn.Sequential(nn.Linear(3, 6), nn.ReLU()), nn.Linear(6, 4))
    if dead:
        nn.init.constant_(model.encoder[0].bias, -1000.0)
    if one_class:
        nn.init.constant_(model.head.bias[2], 1000.0)
    return model


def data(samples=250):
    draw = torch.Generator().manual_seed(1)
    return ClientData(
        None, Split(torch.randn(samples, 3, generator=draw), torch.arange(samples) % 4), mean=(0.0,), std=(1.0,)
    )


def test_dead_features_are_told_of_once(warned):
    test = server_test(RunConfig.parse({}), "all", data(), {"mlp": net()}, NO_BREAKDOWN)
    for model in (net(), net(one_class=True), net(dead=True), net(dead=True)):
        tested = test(GlobalModel(model.state_dict()), None, None)
    assert tested.accuracy == pytest.approx(0.25, abs=0.01)  # 63, 63, 62 and 62 of 250
    assert warned == [TOLD % ""]


def test_of_several_architectures_the_one_is_named(warned):
    test = server_test(RunConfig.parse({}), "group", data(), {"a": net(), "b": net()}, NO_BREAKDOWN)
    alive, dead = net().state_dict(), net(dead=True).state_dict()
    test(GlobalModel({}, {"a": alive, "b": dead}, ("a", "b")), None, None)
    assert warned == [TOLD % " of b"]


def test_a_single_test_sample_says_nothing(warned):
    test = server_test(RunConfig.parse({}), "all", data(1), {"mlp": net()}, NO_BREAKDOWN)
    test(GlobalModel(net(dead=True).state_dict()), None, None)
    assert warned == []
