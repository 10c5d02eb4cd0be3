"""A mistake in a method's own server half is told as its own, and no client is blamed for it."""

import numpy as np
import pytest
import torch

from client_app.app import make_client_app
from client_app.visit import visit
from fedhpro_flwr.config import ConfigError
from fedhpro_flwr.launch.in_process import InProcessGrid
from fedhpro_flwr.methods import METHODS, Departure, Method, ServerStep, method
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


def own(**hooks):
    """A method with these hooks of its own."""
    return type("Own", (Method,), {"name": "mine", **hooks})


@pytest.mark.parametrize(
    ("hooks", "sentence"),
    [
        ({"server_step": lambda *_: None}, "server_step gave nothing, it must give a ServerStep"),
        ({"server_step": lambda *_: {}}, "server_step gave a dict, it must give a ServerStep"),
        ({"expects": lambda *_: None}, "expects gave nothing, it must give a dict of shapes"),
        ({"expects": lambda *_: {"x": 3}}, "expects['x'] gave an int, it must give a tuple of sizes"),
        ({"broadcast": lambda *_: {"x": np.ones(1)}}, "broadcast['x'] gave a ndarray, it must give a tensor"),
        (
            {"prototypes": lambda *_: torch.ones(4, 5)},
            "prototypes gave a tensor of shape [4, 5], it must give a Prototypes or None",
        ),
        ({"tested_head": lambda *_: ()}, "tested_head gave a tuple, it must give a Head or None"),
        ({"tensors": lambda *_: None}, "tensors gave nothing, it must give a dict of tensors"),
    ],
)
def test_what_a_hook_of_the_server_must_give_is_said(make, hooks, sentence):
    with pytest.raises(ConfigError) as refused:
        played(make, own(**hooks))
    assert str(refused.value) == f"method.name = 'mine': its {sentence}"


@pytest.mark.parametrize(
    ("hooks", "sentence"),
    [
        ({"upload": lambda *_: None}, "upload gave nothing, it must give a dict of tensors"),
        ({"upload": lambda *_: {"x": 0.5}}, "upload['x'] gave a float, it must give a tensor"),
        (
            {"local_loss": lambda *_: torch.ones(())},
            "local_loss gave a tensor of shape [], it must give a function or None",
        ),
        ({"logit_offsets": lambda *_: [0.0]}, "logit_offsets gave a list, it must give a tensor of shape [4] or None"),
        (
            {"logit_offsets": lambda *_: torch.ones(7)},
            "logit_offsets gave a tensor of shape [7], it must give a tensor of shape [4] or None",
        ),
        ({"correction": lambda *_: 3}, "correction gave an int, it must give a function or None"),
        ({"depart": lambda *_: None}, "depart gave nothing, it must give a Departure"),
        (
            {"depart": lambda *_: Departure(memory={"x": 3})},
            "depart: memory['x'] gave an int, it must give a tensor",
        ),
    ],
)
def test_what_a_hook_of_a_client_must_give_is_said(make, hooks, sentence):
    config, model = make.config("fedavg"), make.model()
    with pytest.raises(ConfigError) as refused:
        visit(model, make.data(samples=10), make.received(config, model), own(**hooks)(config))
    assert str(refused.value) == f"method.name = 'mine': its {sentence}"


def test_what_a_client_sends_twice_is_refused(make):
    """Else what is measured after training would take the place of what was measured before it."""
    config, model = make.config("fedavg"), make.model()
    hooks = {"upload": lambda *_: {"x": torch.ones(1)}, "depart": lambda *_: Departure({"x": torch.zeros(1)})}
    with pytest.raises(ConfigError) as refused:
        visit(model, make.data(samples=10), make.received(config, model), own(**hooks)(config))
    assert str(refused.value) == "method.name = 'mine': its upload and its depart both send x; rename one"


@pytest.mark.parametrize(
    ("loss", "given"), [(lambda batch: None, "nothing"), (lambda batch: batch.z, "a tensor of shape [10, 5]")]
)
def test_a_loss_is_a_tensor_of_one_number(make, loss, given):
    config, model = make.config("fedavg"), make.model()
    with pytest.raises(ConfigError) as refused:
        visit(model, make.data(samples=10), make.received(config, model), own(local_loss=lambda *_: loss)(config))
    assert str(refused.value) == (
        f"what local_loss returned gave {given} for a batch, it must give a tensor of shape []"
    )


def test_a_model_that_was_changed_in_place_is_looked_at(make):
    """Else the clients of the next round would be blamed for it."""

    def spoiled(self, state, sent, model, updates, draws, watch):
        model[MEAN].mul_(torch.nan)
        return ServerStep(model, state)

    with pytest.raises(ConfigError, match=rf"its server_step made {MEAN} not finite"):
        played(make, own(server_step=spoiled))


def test_a_misspelt_hook_is_refused_when_the_method_is_registered():
    def local_los(self, arrival):
        return None

    with pytest.raises(ConfigError) as refused:
        method("mine-misspelt")(own(local_los=local_los))
    assert str(refused.value) == (
        "method.name = 'mine-misspelt': nobody calls its local_los; did you mean local_loss? If it is its own, begin "
        "its name with _"
    )
    assert "mine-misspelt" not in METHODS


def test_a_state_that_cannot_be_restored_is_refused_before_round_1(make, monkeypatch):
    asked = []
    monkeypatch.setattr(InProcessGrid, "send_and_receive", lambda *_, **__: asked.append(1))
    with pytest.raises(ConfigError, match="its class has a state and no `restored`"):
        played(make, own(start=lambda self, model: 1))
    assert asked == []


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


@pytest.mark.parametrize(("key", "value"), [("privacy__min_samples", 5), ("privacy__class_clip", 1.0)])
def test_what_holds_back_classes_does_not_pass_over_a_record_of_another_name(make, key, value):
    class Sending(Method):
        name = "mine"

        def expects(self, state):
            return {"class-ids": ("P",), "class-counts": ("P",), "my-rows": ("P", 4)}

    refuse_records(Sending(make.config("fedavg")), None)
    with pytest.raises(ConfigError, match=r"and not on my-rows, which method\.name = 'mine' sends of each class; give"):
        refuse_records(Sending(make.config("fedavg", **{key: value})), None)


@pytest.mark.parametrize("settings", [{"min_samples": 5}, {"withhold": True, "model_clip": 1.0, "model_noise": 1.0}])
def test_small_classes_cannot_be_held_back_without_their_counts(make, settings):
    class Sending(Method):
        name = "mine"

        def expects(self, state):
            return {"class-ids": ("P",), "class-prototypes": ("P", 4)}

    refuse_records(Sending(make.config("fedavg")), None)
    config = make.config("fedavg", **{f"privacy__{key}": value for key, value in settings.items()})
    with pytest.raises(ConfigError, match=r"they need a record class-counts beside class-ids, which method\.name"):
        refuse_records(Sending(config), None)


def test_an_initial_model_that_no_reply_may_have_is_refused_before_round_1(make):
    strategy = FedHProStrategy(make.config("fedavg"))
    masked = {**make.model().state_dict(), "encoder.mask": torch.tensor([0.0, -torch.inf])}
    with pytest.raises(ConfigError, match=r"^the initial model: encoder\.mask is not finite, and a reply with that"):
        strategy.start(InProcessGrid(None, 2), array_record(masked))


@pytest.mark.parametrize("asks_before", [True, False])
def test_a_hook_finds_the_model_in_eval_mode_and_the_features_of_that_time(make, asks_before):
    """Features in train mode would move the BatchNorm that is sent; those of `depart` are the trained model's."""
    config, seen = make.config("fedavg", local__lr=0.5), {}

    def noted(when, arrival):
        before = arrival.model.encoder[1].running_mean.clone()
        seen[when] = arrival.model.encoder(arrival.data.encoder_inputs(arrival.train.inputs)).detach()
        assert torch.equal(arrival.model.encoder[1].running_mean, before)
        if when == "depart" or asks_before:
            assert torch.equal(arrival.features, seen[when])

    def upload(self, arrival):
        noted("upload", arrival)
        return {}

    def depart(self, arrival, steps):
        noted("depart", arrival)
        return Departure()

    model = make.model().train()
    visit(model, make.data(samples=10), make.received(config, model), own(upload=upload, depart=depart)(config))
    assert not torch.equal(seen["upload"], seen["depart"])
