"""What of a method's state no checkpoint would hold is named in round 1."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace

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


MEND = "give it in `tensors` or `saved`, or set checkpoint.every = 0"
NOT_BACK = f"does not come back from a checkpoint as it was, so a resumed run would be another; {MEND}"


@pytest.mark.parametrize(
    ("kind", "sentence"),
    [
        (LeavesOut, f"its state['of'][0].velocity {NOT_BACK}"),
        (OfAnotherType, f"its state['of'][0].mean {NOT_BACK}"),
        (Uncounted, f"its state['of'][0].rounds {NOT_BACK}"),
        (InItself, f"its self['seen'] {NOT_BACK}"),
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
