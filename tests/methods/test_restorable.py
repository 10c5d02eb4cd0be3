"""What of a method's state no checkpoint would hold is named in round 1."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from functools import cached_property
from threading import Lock
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from client_app.app import make_client_app
from fedhpro_flwr.config import ConfigError
from fedhpro_flwr.launch.in_process import InProcessGrid
from fedhpro_flwr.methods import Method, ServerStep
from fedhpro_flwr.records import array_record
from server_app.strategy import FedHProStrategy


@dataclass(frozen=True)
class Moving:
    """A mean, and how it moved."""

    mean: torch.Tensor
    velocity: torch.Tensor
    rounds: int = 0


class OfMoving(Method):
    name = "mine"

    def start(self, model):
        self.seen = 0
        return {"of": [Moving(torch.zeros(2), torch.zeros(2))]}

    def server_step(self, state, sent, model, updates, draws, watch):
        (of,) = state["of"]
        return ServerStep(model, {"of": [Moving(of.mean + 1, of.velocity + 2, of.rounds + 1)]})

    def tensors(self, state):
        (of,) = state["of"]
        return {"mean": of.mean, "velocity": of.velocity, "rounds": torch.tensor(of.rounds)}

    def restored(self, start, saved):
        return {"of": [Moving(saved["mean"], saved["velocity"], int(saved["rounds"]))]}


def played(make, kind, reports, **changes):
    """The strategy after two rounds of this method with one client."""
    config = make.config("fedavg", partition__num_partitions=1, **changes)
    app = make_client_app(lambda config, task, context: (make.model(), make.data()))
    strategy = FedHProStrategy(config, method=kind(config), observers=[SimpleNamespace(on_round=reports.append)])
    strategy.start(InProcessGrid(app, 1), array_record(make.model().state_dict()))
    return strategy


class LeavesOut(OfMoving):
    def restored(self, start, saved):
        return {"of": [Moving(saved["mean"], start["of"][0].velocity, int(saved["rounds"]))]}


class OfAnotherType(OfMoving):
    def restored(self, start, saved):
        return {"of": [Moving(saved["mean"].double(), saved["velocity"], int(saved["rounds"]))]}


class Uncounted(OfMoving):
    def restored(self, start, saved):
        return {"of": [Moving(saved["mean"], saved["velocity"])]}


class InItself(OfMoving):
    def server_step(self, *given):
        self.seen += 1
        return super().server_step(*given)


class Unsaved(OfMoving):
    def tensors(self, state):
        return {"mean": state["of"][0].mean}


class MadeOnce(OfMoving):
    """Server momentum in a dictionary that only the constructor makes."""

    def __init__(self, config):
        super().__init__(config)
        self.velocity = {}

    def server_step(self, state, sent, model, updates, draws, watch):
        for name, tensor in model.items():
            self.velocity[name] = self.velocity.get(name, 0) + tensor
        return super().server_step(state, sent, model, updates, draws, watch)


class AsAttribute(OfMoving):
    def server_step(self, *given):
        self.late = 1
        return super().server_step(*given)


class WithAdam(OfMoving):
    """Adam on the server, of which the checkpoint has the weights alone."""

    def start(self, model):
        weights = torch.zeros(2)
        return super().start(model) | {"weights": weights, "adam": torch.optim.Adam([weights])}

    def server_step(self, state, *given):
        state["weights"].grad = torch.ones(2)
        state["adam"].step()
        step = super().server_step(state, *given)
        return ServerStep(step.model, state | step.state)

    def tensors(self, state):
        return super().tensors(state) | {"weights": state["weights"]}

    def restored(self, start, saved):
        start["weights"].data.copy_(saved["weights"])
        return start | super().restored(start, saved)


class WithObject(OfMoving):
    """Something else beside the state, anew in every round."""

    def __init__(self, config, make):
        super().__init__(config)
        self.make, self.count = make, 0

    def start(self, model):
        return super().start(model) | {"more": self.make(0)}

    def server_step(self, state, *given):
        self.count += 1
        step = super().server_step(state, *given)
        return ServerStep(step.model, step.state | {"more": self.make(self.count)})

    def restored(self, start, saved):
        self.count = int(saved["rounds"])
        return start | super().restored(start, saved)


MEND = "give it in `tensors` or `saved`, or set checkpoint.every = 0"
NOT_BACK = f"does not come back from a checkpoint as it was, so a resumed run would be another; {MEND}"


@pytest.mark.parametrize(
    ("kind", "sentence"),
    [
        (LeavesOut, f"its state['of'][0].velocity {NOT_BACK}"),
        (OfAnotherType, f"its state['of'][0].mean {NOT_BACK}"),
        (Uncounted, f"its state['of'][0].rounds {NOT_BACK}"),
        (InItself, f"its self['seen'] {NOT_BACK}"),
        (MadeOnce, f"its self['velocity'] {NOT_BACK}"),
        (AsAttribute, f"its self['late'] {NOT_BACK}"),
        (WithAdam, f"its state['adam'].state_dict()['state'] {NOT_BACK}"),
        (lambda config: WithObject(config, lambda turn: np.full(2, turn)), f"its state['more'] {NOT_BACK}"),
        (lambda config: WithObject(config, lambda turn: {1, 2 + turn}), f"its state['more'] {NOT_BACK}"),
        (lambda config: WithObject(config, lambda turn: deque([turn])), f"its state['more'][0] {NOT_BACK}"),
        (
            lambda config: WithObject(config, lambda turn: torch.Generator().manual_seed(turn)),
            f"its state['more'].get_state() {NOT_BACK}",
        ),
        (Unsaved, f"its `restored` asks for velocity, which no checkpoint would have; {MEND}"),
    ],
)
def test_what_a_checkpoint_would_lose_is_refused_in_round_1(make, kind, sentence):
    reports = []
    with pytest.raises(ConfigError) as refused:
        played(make, kind, reports)
    assert str(refused.value) == f"method.name = 'mine': {sentence}"
    assert reports == []  # so that no checkpoint is written
    played(make, kind, reports, checkpoint__every=0)
    assert len(reports) == 2


def test_looking_changes_nothing_of_a_method_that_keeps_things_in_itself(make):
    class KeepsAll(InItself):
        def restored(self, start, saved):
            self.seen = int(saved["rounds"])
            return super().restored(start, saved)

    assert played(make, KeepsAll, []).method.seen == 2


def test_what_is_computed_again_need_not_come_back(make):
    class Cached(OfMoving):
        @cached_property
        def table(self):
            return torch.arange(3)

        def server_step(self, *given):
            assert len(self.table) == 3
            return super().server_step(*given)

    played(make, Cached, reports := [])
    assert len(reports) == 2


def test_a_method_that_cannot_be_copied_is_looked_at_as_far_as_it_goes(make):
    class Locked(InItself):
        def __init__(self, config):
            super().__init__(config)
            self.lock = Lock()

    with pytest.raises(ConfigError, match=r"its self\['seen'\] does not come back"):
        played(make, Locked, [])


def test_what_the_server_draws_from_torchs_own_generator_is_decided_by_the_seed(make):
    class Drawing(OfMoving):
        def start(self, model):
            return super().start(model) | {"drawn": [torch.randn(3)]}

        def server_step(self, state, *given):
            step = super().server_step(state, *given)
            return ServerStep(step.model, step.state | {"drawn": [*state["drawn"], torch.randn(3)]})

    first, again = (torch.stack(played(make, Drawing, [], checkpoint__every=0).state["drawn"]) for _ in range(2))
    assert torch.equal(first, again)
    assert len(torch.unique(first)) == 9
