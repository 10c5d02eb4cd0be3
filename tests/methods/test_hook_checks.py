"""A mistake in a method's own server half is told as its own, and no client is blamed for it."""

import numpy as np
import pytest
import torch

from client_app.app import make_client_app
from fedhpro_flwr.config import ConfigError
from fedhpro_flwr.launch.in_process import InProcessGrid
from fedhpro_flwr.methods import Method, ServerStep
from fedhpro_flwr.methods.hook_checks import refuse_records
from fedhpro_flwr.records import array_record
from server_app.strategy import FedHProStrategy

MEAN, VARIANCE = "encoder.1.running_mean", "encoder.1.running_var"


def played(make, method):
    """The strategy after two rounds with this server half of a method beside FedAvg's clients."""
    config = make.config("fedavg", partition__num_partitions=2)
    app = make_client_app(lambda config, task, context: (make.model(), make.data(task.partition_id)))
    strategy = FedHProStrategy(config, method=method(config))
    strategy.start(InProcessGrid(app, 2), array_record(make.model().state_dict()))
    return strategy


def stepping(change, **metrics):
    """A method whose server_step changes the averaged model as told."""

    class Stepping(Method):
        name = "mine"

        def server_step(self, state, sent, model, updates, draws, watch):
            return ServerStep(change(dict(model)), state, metrics)

    return Stepping


CHANGED = "changed the model's tensors: "


def without(model, name):
    del model[name]
    return model


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda model: without(model, MEAN), f"{CHANGED}{MEAN} is missing, here float32 [5]"),
        (lambda model: model | {"extra": torch.ones(1)}, f"{CHANGED}extra is float32 [1], here missing"),
        (lambda model: model | {MEAN: model[MEAN].double()}, f"{CHANGED}{MEAN} is float64 [5], here float32 [5]"),
        (lambda model: model | {MEAN: torch.zeros(4)}, f"{CHANGED}{MEAN} is float32 [4], here float32 [5]"),
        (lambda model: model | {MEAN: model[MEAN] * torch.inf}, f"made {MEAN} not finite"),
        (
            lambda model: model | {VARIANCE: -model[VARIANCE]},
            f"made {VARIANCE} negative; a variance is best left at the clients' mean",
        ),
    ],
)
def test_a_model_that_is_none_is_the_methods_own_mistake(make, change, sentence):
    with pytest.raises(ConfigError) as refused:
        played(make, stepping(change))
    assert str(refused.value) == f"method.name = 'mine': its server_step {sentence}"


@pytest.mark.parametrize("value", [float("nan"), torch.ones(1), "much"])
def test_a_metric_is_a_finite_number(make, value):
    with pytest.raises(ConfigError, match=r"its server_step gave the metric norm = .*; it must be a finite number$"):
        played(make, stepping(dict, norm=value))


def test_numbers_of_numpy_become_pythons(make):
    metrics = played(make, stepping(dict, norm=np.float32(0.5), steps=3)).method_metrics
    assert metrics == {"norm": 0.5, "steps": 3.0} and {type(value) for value in metrics.values()} == {float}


@pytest.mark.parametrize(
    ("expected", "broadcast", "sentence"),
    [
        ({"model": (3,)}, {}, "every message has a record model already; rename its own"),
        ({}, {"config": torch.ones(1)}, "every message has a record config already; rename its own"),
        (
            {"mine": ("P", 4)},
            {},
            "mine has a row for each of a client's classes, 'P' in `expects`, which needs a record class-ids that says "
            "which they are",
        ),
    ],
)
def test_records_are_looked_at_before_round_1(make, expected, broadcast, sentence):
    class Sending(Method):
        name = "mine"

        def expects(self, state):
            return expected

        def broadcast(self, state):
            return broadcast

    with pytest.raises(ConfigError) as refused:
        played(make, Sending)
    assert str(refused.value) == f"method.name = 'mine': {sentence}"


def test_what_no_noise_covers_is_named_before_round_1_with_everything_withheld(make):
    class Sending(Method):
        name = "mine"

        def expects(self, state):
            return {"sizes": (3,)}

    withheld = {"privacy__withhold": True, "privacy__model_clip": 1.0, "privacy__model_noise": 1.0}
    method = Sending(make.config("fedavg", **withheld))
    with pytest.raises(
        ConfigError, match=r"^privacy\.withhold = true: no noise covers sizes, which method\.name = 'mine'"
    ):
        refuse_records(method, None)
