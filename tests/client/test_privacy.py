"""What leaves a client: exact clipping, noise of the right size, classes left out, replies that tell nothing else."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fedhpro_flwr.client.gaussian_noise import seeded_normals
from fedhpro_flwr.client.personal import PersonalState
from fedhpro_flwr.client.privacy import (
    blurred,
    blurred_model,
    of_every_class,
    protected,
    without_small_classes,
    worst_spent,
)
from fedhpro_flwr.client.privacy_account import epsilon_of
from fedhpro_flwr.config import RunConfig
from fedhpro_flwr.metrics import Evaluation
from fedhpro_flwr.records import Broadcast, OwnTest, Task, Update
from fedhpro_flwr.seeding import Draws

CLASSES, WIDTH = 4, 3
BOTH = {
    "privacy.class-clip": 1.0,
    "privacy.class-noise": 2.0,
    "privacy.model-clip": 1.0,
    "privacy.model-noise": 4.0,
}
SENT = {"w": torch.ones(2, 2), "n.running_var": torch.full((2,), 0.01), "n.num_batches_tracked": torch.tensor(3)}


def noise(seed=0):
    return seeded_normals(Draws(seed))


def reply(ids=(0, 2), counts=(5, 4), partition=1, examples=12):
    """A client's reply with class gradients, and everything else that a client tells."""
    rows = torch.arange(len(ids) * WIDTH, dtype=torch.float32).view(len(ids), WIDTH)
    tensors = {
        "class-ids": torch.tensor(ids, dtype=torch.int64),
        "class-counts": torch.tensor(counts, dtype=torch.int64),
        "class-gradients": rows,
        "head-weight-gradients": torch.ones(len(ids), CLASSES, WIDTH),
    }
    model = {name: tensor + 1 for name, tensor in SENT.items()}
    test = OwnTest(partition, Evaluation(torch.tensor([[0, 0, 0, 7]]), CLASSES, 0.5))
    return Update(partition, examples, model, tensors, {"train-loss": 0.25, "seconds-departure": 1.5}, test)


def received(server_round=1, **changes):
    return Broadcast(SENT, {}, RunConfig.parse(changes), Task(server_round, 1))


# --- classes of few samples -------------------------------------------------------------------------------------------


def test_a_class_of_too_few_samples_is_left_out_of_every_record():
    tensors = reply(ids=(0, 2, 3), counts=(5, 4, 6)).tensors | {"other": torch.arange(2)}
    kept = without_small_classes(tensors, 5)
    assert kept["class-ids"].tolist() == [0, 3] and kept["class-counts"].tolist() == [5, 6]
    assert kept["class-gradients"].tolist() == [[0, 1, 2], [6, 7, 8]]
    assert kept["head-weight-gradients"].shape == (2, CLASSES, WIDTH)
    assert kept["other"] is tensors["other"]


def test_a_client_whose_classes_are_all_small_sends_records_without_rows():
    kept = without_small_classes(reply().tensors, 6)
    assert [tuple(tensor.shape) for tensor in kept.values()] == [(0,), (0,), (0, WIDTH), (0, CLASSES, WIDTH)]


@pytest.mark.parametrize("changes", [{"privacy.min-samples": 5}, BOTH | {"privacy.withhold": True}])
def test_classes_without_their_counts_do_not_leave_the_client(changes, tmp_path):
    update = reply()
    del update.tensors["class-counts"]
    assert protected(update, received(), CLASSES).tensors == update.tensors
    with pytest.raises(ValueError, match="the reply has class-ids and no class-counts"):
        protected(update, received(**changes), CLASSES, PersonalState(tmp_path))


def test_every_class_gets_a_row_and_the_same_count():
    filled = of_every_class(reply().tensors, CLASSES)
    assert filled["class-ids"].tolist() == [0, 1, 2, 3] and filled["class-counts"].tolist() == [1, 1, 1, 1]
    assert filled["class-gradients"].tolist() == [[0, 1, 2], [0, 0, 0], [3, 4, 5], [0, 0, 0]]
    assert filled["head-weight-gradients"].sum(dim=(1, 2)).tolist() == [12, 0, 12, 0]
    assert filled["class-ids"].dtype == filled["class-counts"].dtype == torch.int64


# --- clipping and noise -----------------------------------------------------------------------------------------------


def test_tensors_are_clipped_as_one_vector():
    short = blurred([torch.tensor([[3.0, 4.0]]), torch.tensor([12.0])], 6.5, 0.0, noise())  # of norm 13
    assert [tensor.tolist() for tensor in short] == [[[1.5, 2.0]], [6.0]]


def test_what_is_short_enough_stays_bit_for_bit():
    tensors = [torch.tensor([0.1, 0.2]), torch.tensor(0.3)]
    assert all(a is b for a, b in zip(blurred(tensors, 1.0, 0.0, noise()), tensors, strict=True))


@settings(max_examples=50)
@given(
    st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=6),
    st.lists(st.floats(-1e6, 1e6, width=32), max_size=6),
    st.floats(1e-3, 1e3),
)
def test_nothing_is_longer_than_the_norm_and_nothing_is_turned(one, other, longest):
    before = [torch.tensor(one), torch.tensor(other)]
    after = blurred(before, longest, 0.0, noise())
    a, b = (torch.cat(tensors).double() for tensors in (before, after))
    assert float(b.norm()) <= longest * (1 + 1e-6)
    assert torch.allclose(b * a.norm(), a * b.norm(), rtol=1e-4, atol=1e-4 * float(a.norm()) * 1e-3)


@pytest.mark.parametrize(("longest", "multiplier"), [(1.0, 0.5), (4.0, 0.25), (0.1, 3.0)])
def test_noise_is_of_the_size_that_the_account_reckons_with(longest, multiplier):
    signal = torch.full((40_000,), longest / 200)  # of norm M
    (noised,) = blurred([signal], longest, multiplier, noise())
    drawn = noised.double() - signal.double()
    assert float(drawn.std()) == pytest.approx(multiplier * longest, rel=0.02)
    assert abs(float(drawn.mean())) < 0.02 * multiplier * longest


def test_noise_comes_after_clipping():
    signal = torch.full((40_000,), 1.0)  # of norm 200
    (noised,) = blurred([signal], 2.0, 0.001, noise())
    assert float(noised.mean()) == pytest.approx(0.01, rel=0.01)


def test_what_is_short_enough_is_not_lengthened_under_noise_either():
    signal = torch.full((40_000,), 0.01)  # of norm 2
    (noised,) = blurred([signal], 4.0, 0.001, noise())
    assert float(noised.mean()) == pytest.approx(0.01, rel=0.01)


@pytest.mark.parametrize("broken", [math.nan, math.inf, -math.inf])
def test_a_number_that_is_none_leaves_the_noise_alone(broken):
    """Else one entry would tell, or would switch the noise off."""
    sick = blurred([torch.tensor([1.0, broken]), torch.ones(2)], 1.0, 1.0, noise())
    zero = blurred([torch.zeros(2), torch.zeros(2)], 1.0, 1.0, noise())
    assert all(torch.equal(a, b) for a, b in zip(sick, zero, strict=True))


def test_a_model_is_clipped_by_how_far_it_moved():
    model = {"w": SENT["w"] + torch.tensor([[3.0, 0.0], [0.0, 0.0]]), "b": torch.tensor([5.0])}
    clipped = blurred_model(model, {"w": SENT["w"], "b": torch.tensor([1.0])}, 2.5, 0.0, noise())  # moved by 5
    assert clipped["w"].tolist() == [[2.5, 1.0], [1.0, 1.0]] and clipped["b"].tolist() == [3.0]


def test_a_model_near_enough_stays_bit_for_bit():
    model = {name: tensor.clone() for name, tensor in reply().model.items()}
    after = blurred_model(model, SENT, 100.0, 0.0, noise())
    assert all(after[name] is model[name] for name in model)


def test_with_noise_counters_do_not_move_and_variances_stay_variances():
    after = [blurred_model(reply().model, SENT, 1.0, 4.0, noise(seed)) for seed in range(10)]
    assert all(int(model["n.num_batches_tracked"]) == 3 for model in after)
    variances = torch.stack([model["n.running_var"] for model in after])
    assert float(variances.min()) == 0.0 < float(variances.max())
    assert bool((torch.stack([model["w"] for model in after]) < 0).any())


# --- the reply --------------------------------------------------------------------------------------------------------


def test_with_default_settings_the_reply_is_what_the_visit_made():
    made = reply()
    sent = protected(made, received(), CLASSES)
    assert all(sent.tensors[name] is made.tensors[name] for name in made.tensors)
    assert sent.model is made.model and sent.test is made.test and sent.metrics == made.metrics
    assert sent.num_examples == 12


def test_noise_alone_tells_no_epsilon():
    sent = protected(reply(), received(**BOTH), CLASSES)
    assert sent.metrics.keys() == {"train-loss", "seconds-departure"} and sent.num_examples == 12
    assert sent.tensors["class-ids"].tolist() == [0, 2]
    assert not torch.equal(sent.tensors["class-gradients"], reply().tensors["class-gradients"])
    assert not torch.equal(sent.model["w"], reply().model["w"])


def test_what_is_withheld_is_the_same_of_every_client(tmp_path):
    """Two clients of other classes, sizes and results: without its noise a reply does not say whose it is."""
    given = received(**BOTH, **{"privacy.withhold": True})
    one = protected(reply(), given, CLASSES, PersonalState(tmp_path / "1"))
    other = protected(reply((1,), (40,), examples=99), given, CLASSES, PersonalState(tmp_path / "2"))
    assert one.num_examples == other.num_examples == CLASSES
    assert one.test is other.test is None
    assert one.metrics == other.metrics and list(one.metrics) == ["epsilon"]
    for name, tensor in one.tensors.items():
        assert tensor.shape == other.tensors[name].shape
        assert torch.equal(tensor, other.tensors[name]) == (name in ("class-ids", "class-counts"))
    assert torch.equal(one.model["n.num_batches_tracked"], other.model["n.num_batches_tracked"])


def test_a_small_class_is_left_out_before_the_noise(tmp_path):
    """A class that is left out and one that is not there are the same vector, so the noise covers both."""
    given = received(**BOTH, **{"privacy.withhold": True, "privacy.noise": "seeded", "privacy.min-samples": 5})
    left_out = protected(reply((0, 2), (5, 4)), given, CLASSES, PersonalState(tmp_path / "1"))
    not_there = protected(reply((0,), (5,)), given, CLASSES, PersonalState(tmp_path / "2"))
    assert all(torch.equal(tensor, not_there.tensors[name]) for name, tensor in left_out.tensors.items())


def test_epsilon_is_of_both_vectors_and_all_replies(tmp_path):
    state = PersonalState(tmp_path)
    told = [
        protected(reply(), received(number, **BOTH, **{"privacy.withhold": True}), CLASSES, state).metrics["epsilon"]
        for number in (1, 2)
    ]
    once = (2 / 2.0) ** 2 + (2 / 4.0) ** 2
    assert told == [pytest.approx(epsilon_of(math.sqrt(number * once), 1e-5), abs=1e-6) for number in (1, 2)]


def test_epsilon_counts_what_is_sent(tmp_path):
    update = reply()
    plain = Update(1, 12, update.model, {}, {}, None)  # FedAvg sends nothing of classes
    sent = protected(plain, received(**BOTH, **{"privacy.withhold": True}), CLASSES, PersonalState(tmp_path))
    assert sent.metrics["epsilon"] == pytest.approx(epsilon_of(2 / 4.0, 1e-5), abs=1e-6)


def test_noise_of_the_seed_has_no_epsilon_but_what_it_would_be(tmp_path):
    given = received(**BOTH, **{"privacy.withhold": True, "privacy.noise": "seeded"})
    one = protected(reply(), given, CLASSES, PersonalState(tmp_path / "1"))
    two = protected(reply(), given, CLASSES, PersonalState(tmp_path / "2"))
    assert list(one.metrics) == ["epsilon-if-secret"]
    assert all(torch.equal(tensor, two.model[name]) for name, tensor in one.model.items())


def test_class_tensors_and_model_get_noise_of_their_own():
    """The same numbers twice would cancel in a difference."""
    given = received(**BOTH, **{"privacy.noise": "seeded"})
    update = Update(1, 12, {"w": torch.zeros(4)}, {"class-gradients": torch.zeros(1, 4)}, {}, None)
    sent = protected(update, Broadcast({"w": torch.zeros(4)}, {}, given.config, given.task), CLASSES)
    assert not (sent.model["w"] / 4.0 == sent.tensors["class-gradients"][0] / 2.0).any()


@pytest.mark.parametrize(
    ("tensors", "changes", "sentence"),
    [
        ({"control": torch.ones(2)}, {}, "privacy.withhold: control would leave the client without noise"),
        (None, {"privacy.class-noise": 0.0}, "privacy.withhold needs noise on all that is sent"),
        (None, {}, "privacy.withhold needs a folder for the client's privacy account: clients.state-path"),
    ],
)
def test_a_reply_that_epsilon_would_lie_about_does_not_leave(tensors, changes, sentence):
    update = reply() if tensors is None else Update(1, 12, {}, tensors, {}, None)
    with pytest.raises(ValueError, match=sentence):
        protected(update, received(**(BOTH | {"privacy.withhold": True} | changes)), CLASSES)


def test_the_worst_client_is_told():
    assert worst_spent([{"epsilon": 2.0}, {"epsilon": 3.0}, {"other": 9.0}]) == {"epsilon": 3.0}
    assert worst_spent([{"epsilon-if-secret": 1.0}]) == {"epsilon-if-secret": 1.0}
    assert worst_spent([]) == {}
