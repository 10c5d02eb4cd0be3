"""What of a model travels, and its mean."""

import pytest
import torch

from fedhpro_flwr.aggregation import weighted_mean
from fedhpro_flwr.exchange import GlobalModel, exchanged, personal
from fedhpro_flwr.records import Update
from fedhpro_flwr.settings.sections import AggregationOptions

MODEL = {"encoder.w": torch.tensor([1.0]), "encoder.n": torch.tensor(3), "head.weight": torch.tensor([[2.0]])}


@pytest.mark.parametrize(
    ("share", "names"),
    [("all", set(MODEL)), ("group", set(MODEL)), ("head", {"head.weight"}), ("nothing", set())],
)
def test_a_tensor_travels_or_stays(share, names):
    assert set(exchanged(MODEL, share)) == names
    assert set(personal(MODEL, share)) == set(MODEL) - names


def update(client, examples, model):
    return Update(client, examples, {name: torch.tensor([value]) for name, value in model.items()}, {})


def test_the_head_is_averaged_over_all_and_an_encoder_within_its_group():
    members = ["a", "b", "a", "c"]
    start = {name: {"encoder.w": torch.zeros(1), "head.w": torch.full((1,), 9.0)} for name in "abc"}
    model = GlobalModel.start(start["a"], "group", start, members)
    assert model.groups == ("a", "b", "c")
    assert set(model.tensors("b")) == {"encoder.w", "head.w"}
    updates = [
        update(0, 1, {"encoder.w": 1.0, "head.w": 1.0}),
        update(1, 2, {"encoder.w": 10.0, "head.w": 4.0}),
        update(2, 3, {"encoder.w": 5.0, "head.w": 7.0}),
    ]
    mean = model.mean(updates, AggregationOptions())
    assert mean.tensors("a")["encoder.w"].item() == (1 * 1.0 + 3 * 5.0) / 4
    assert mean.tensors("b")["encoder.w"].item() == 10.0
    assert mean.tensors("c")["encoder.w"].item() == 0.0  # nobody replied: it stays
    assert mean.shared["head.w"].item() == (1 * 1.0 + 2 * 4.0 + 3 * 7.0) / 6
    assert mean.with_shared({"head.w": torch.ones(1)}).tensors("b")["head.w"].item() == 1.0


def test_one_architecture_is_one_mean():
    draw = torch.Generator().manual_seed(0)
    states = [{name: torch.randn(5, generator=draw) for name in ("encoder.w", "head.w")} for _ in range(3)]
    updates = [Update(client, client + 1, state, {}) for client, state in enumerate(states)]
    mean = GlobalModel.start(states[0], "all").mean(updates, AggregationOptions())
    wanted = weighted_mean(states, [1, 2, 3])
    assert mean.groups == ("",)
    assert all(torch.equal(mean.tensors("")[name], wanted[name]) for name in wanted)


def test_nothing_is_no_error():
    assert GlobalModel.start(MODEL, "nothing").mean([Update(0, 1, {}, {})], AggregationOptions()).shared == {}
