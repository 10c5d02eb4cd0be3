"""`calibration.from-imbalance`: the head is re-trained while the classes that were heard of are imbalanced."""

import pytest
import torch

from fedhpro_flwr.methods.fedhpro_state import imbalance
from fedhpro_flwr.records import HEAD_BIAS_GRADIENTS, HEAD_WEIGHT_GRADIENTS
from fedhpro_flwr.seeding import sample_partitions

SEED = 12  # of one client a round it draws 0, 0, 1


def played(make, rounds, **changes):
    """Client 0 has five times as many samples of class 0 as of class 1, client 1 the other way round."""
    settings = {
        "seed": SEED,
        "rounds": rounds,
        "partition__num_partitions": 2,
        "clients__per_round": 1,
        "calibration__head": "separate",
        "calibration__from_imbalance": 3.0,
        "calibration__prototypes_per_class": 3,
        "calibration__matching_steps": 2,
        "calibration__epochs": 2,
    }
    config = make.config("fedhpro", **(settings | changes))
    return make.run(config, [make.data(1, (0, 0, 0, 0, 0, 1)), make.data(2, (1, 1, 1, 1, 1, 0))])


def sent_head_gradients(strategy):
    (update,) = strategy.replies.good
    return {HEAD_WEIGHT_GRADIENTS, HEAD_BIAS_GRADIENTS} <= update.tensors.keys()


def test_the_draws_are_those_that_the_others_rely_on():
    assert [sample_partitions(2, 1, seed=SEED, server_round=r, sampling="round") for r in (1, 2, 3)] == [[0], [0], [1]]


@pytest.mark.parametrize("head", ["separate", "replace"])
def test_head_gradients_travel_a_round_after_the_imbalance_was_heard_of(make, head):
    first, second = (played(make, rounds, calibration__head=head) for rounds in (1, 2))
    assert first.state.wants_head_gradients and not sent_head_gradients(first)
    assert torch.equal(first.state.class_counts, torch.tensor([[10.0, 2, 0, 0], [0, 0, 0, 0]]))
    assert second.state.wants_head_gradients and sent_head_gradients(second)
    before, after = first.state.calibrated.prototypes, second.state.calibrated.prototypes
    assert not torch.equal(before[:2], after[:2]) and torch.equal(before[2:], after[2:])  # nobody has classes 2 and 3


def test_the_counts_heard_of_survive_a_checkpoint(make):
    """Else a resumed run would never hear that its classes are no longer imbalanced, as here in round 3."""
    second = played(make, 2)
    again = second.method.restored(None, second.method.saved(second.state))
    assert torch.equal(again.class_counts, second.state.class_counts)
    assert int(again.class_counts.sum()) == 12


def test_a_head_that_is_no_longer_re_trained_is_not_used_either(make):
    """Client 1, drawn in round 3, makes the classes equal: from then on the model's own head is measured and tested."""
    second, third = played(make, 2), played(make, 3)
    assert second.state.gradient_head is not None
    assert second.method.tested_head(second.method.broadcast(second.state)) is not None
    assert imbalance(third.state.class_counts) == 1.0
    assert third.state.gradient_head is None
    assert third.method.tested_head(third.method.broadcast(third.state)) is None
    assert third.method.broadcast(third.state).keys() == {"hyper-prototypes", "calibrates"}
    assert int(third.method.broadcast(third.state)["calibrates"]) == 0
