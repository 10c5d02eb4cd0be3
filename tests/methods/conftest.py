"""Small clients for the tests of the methods: an encoder with a BatchNorm, four classes, nobody of class 2."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from client_app.app import make_client_app
from fedhpro_flwr.client_data import ClientData
from fedhpro_flwr.config import RunConfig
from fedhpro_flwr.data import Split
from fedhpro_flwr.launch.in_process import InProcessGrid
from fedhpro_flwr.methods import Arrival
from fedhpro_flwr.models import Model
from fedhpro_flwr.records import Broadcast, Task, array_record
from fedhpro_flwr.seeding import Draws
from server_app.strategy import FedHProStrategy


class Make:
    """What the tests of a method are made of."""

    classes, width, inputs, samples = 4, 5, 6, 12

    def model(self, seed: int = 0) -> Model:
        """Random weights, and a BatchNorm that has seen something."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            norm = nn.BatchNorm1d(self.width)
            model = Model(
                nn.Sequential(nn.Linear(self.inputs, self.width), norm, nn.ReLU()), nn.Linear(self.width, self.classes)
            )
            norm.running_mean.uniform_(-0.2, 0.2)
            norm.running_var.uniform_(0.5, 1.5)
        return model

    def data(self, seed: int = 1, labels: Sequence[int] = (0, 1, 3), samples: int | None = None) -> ClientData:
        """Samples of these classes in turn."""
        samples = samples or self.samples
        draw = torch.Generator().manual_seed(seed)
        held = torch.tensor(labels)[torch.arange(samples) % len(labels)]
        return ClientData(Split(torch.randn(samples, self.inputs, generator=draw), held), None, (0.1,), (2.0,))

    def config(self, method: str, **changes: str | int | float | bool) -> RunConfig:
        """One epoch of one batch by plain SGD, unless said otherwise."""
        defaults: dict[str, str | int | float | bool] = {
            "method__name": method,
            "rounds": 2,
            "local__epochs": 1,
            "local__batch_size": 100,
            "local__lr": 0.1,
            "local__momentum": 0.0,
            "evaluation__clients_every": 0,
        }
        return RunConfig.parse(**(defaults | changes))

    def received(
        self, config: RunConfig, model: Model, sent: Mapping[str, Tensor] | None = None, server_round: int = 1
    ) -> Broadcast:
        """What client 0 receives."""
        weights = {name: value.clone() for name, value in model.state_dict().items()}
        return Broadcast(weights, sent or {}, config, Task(server_round, 0))

    def arrival(
        self,
        config: RunConfig,
        model: Model,
        data: ClientData,
        sent: Mapping[str, Tensor] | None = None,
        memory: Mapping[str, Tensor] | None = None,
        server_round: int = 1,
    ) -> Arrival:
        """Client 0 before it trains."""
        received = self.received(config, model, sent, server_round)
        return Arrival(model, data, received, Draws(0, server_round, 0), memory or {})

    def run(
        self, config: RunConfig, clients: Sequence[ClientData], grid: type[InProcessGrid] = InProcessGrid
    ) -> FedHProStrategy:
        """All rounds of the real strategy with these clients."""
        app = make_client_app(lambda config, task, context: (self.model(1), clients[task.partition_id]))
        strategy = FedHProStrategy(config)
        strategy.start(grid(app, len(clients)), array_record(self.model().state_dict()))
        return strategy


@pytest.fixture(scope="session")
def make() -> Make:
    return Make()


@pytest.fixture(autouse=True)
def states_of_clients(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where clients of a test keep what they remember, in place of the user's own folder."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path / "state" / "fedhpro"
