"""`aggregation.*`: the defaults are the plain means bit for bit, and each choice does what its name says."""

import pytest
import torch

from fedhpro_flwr.aggregation import class_mean, weighted_mean
from fedhpro_flwr.chosen_aggregation import average_classes, average_models
from fedhpro_flwr.config import RunConfig

DRAW = torch.Generator().manual_seed(0)
SENT = {"w": torch.randn(6, generator=DRAW), "n": torch.tensor(4)}
MODELS = [{"w": torch.randn(6, generator=DRAW), "n": torch.tensor(4 + k)} for k in range(5)]
EXAMPLES = [3, 1, 4, 1, 5]


def chosen(**settings):
    return RunConfig.parse({}, **{f"aggregation__{name}": value for name, value in settings.items()}).aggregation


def sent(ids, counts=None, width=3):
    ids = torch.tensor(ids, dtype=torch.int64)
    counts = torch.ones_like(ids) if counts is None else torch.tensor(counts)
    return ids, torch.randn(len(ids), width, generator=DRAW), counts


def columns(clients):
    """(ids, rows, counts), a client each -> the ids, the rows and the counts of all."""
    return [list(each) for each in zip(*clients, strict=True)]


CLASSES = [sent([0, 3], [2, 9]), sent([1, 3], [1, 4]), sent([3], [7]), sent([0, 1, 3], [5, 5, 5])]


def same_bits(one, other):
    return {name: value.numpy().tobytes() for name, value in one.items()} == {
        name: value.numpy().tobytes() for name, value in other.items()
    }


def test_the_default_is_the_mean_bit_for_bit():
    assert same_bits(average_models(chosen(), MODELS, EXAMPLES, SENT), weighted_mean(MODELS, EXAMPLES))
    for weighting in ("clients", "counts"):
        ours = average_classes(chosen(), *columns(CLASSES), 5, weighting=weighting)
        plain = class_mean(*columns(CLASSES), 5, weighting=weighting)
        assert torch.equal(ours.mean, plain.mean) and torch.equal(ours.class_mask, plain.class_mask)


def test_clients_may_count_once_whatever_they_say_of_their_samples():
    once = average_models(chosen(weighting="clients"), MODELS, [1, 1, 2**40, 1, 1], SENT)
    assert same_bits(once, weighted_mean(MODELS, [1] * 5))


def test_the_median_of_models_hears_no_weights():
    options = chosen(model="median")
    median = average_models(options, MODELS, [1, 1, 2**40, 1, 1], SENT)
    assert torch.equal(median["w"], torch.stack([model["w"] for model in MODELS]).median(dim=0).values)
    assert same_bits(median, average_models(options, MODELS[::-1], EXAMPLES, SENT))


def test_the_median_of_a_class_is_over_the_clients_that_hold_it():
    median, mask = average_classes(chosen(class_gradients="median"), *columns(CLASSES), 5, weighting="counts")
    assert mask.tolist() == [True, True, False, True, False]
    assert median[2].tolist() == median[4].tolist() == [0.0, 0.0, 0.0]
    of_three = torch.stack([CLASSES[0][1][1], CLASSES[1][1][1], CLASSES[2][1][0]])
    four = torch.cat([of_three, CLASSES[3][1][2:]]).sort(dim=0).values
    torch.testing.assert_close(median[3], (four[1] + four[2]) / 2)
    torch.testing.assert_close(median[0], (CLASSES[0][1][0] + CLASSES[3][1][0]) / 2)


def test_a_long_class_gradient_is_brought_down_to_the_median_length():
    """(0, 10) among (1, 0) and (2, 0): the median length is 2."""
    rows = [[[1.0, 0.0]], [[2.0, 0.0]], [[0.0, 10.0]]]
    one = torch.ones(1, dtype=torch.int64)
    clients = columns((one, torch.tensor(row), count * one) for count, row in zip((1, 1, 2), rows, strict=True))
    options = chosen(clip_to_median=True)
    torch.testing.assert_close(average_classes(options, *clients, 2).mean[1], torch.tensor([1.0, 2 / 3]))
    by_counts = average_classes(options, *clients, 2, weighting="counts")
    torch.testing.assert_close(by_counts.mean[1], torch.tensor([0.75, 1.0]))
    assert by_counts.class_mask.tolist() == [False, True]


def test_a_clip_that_holds_nobody_back_changes_no_value():
    far = chosen(clip_norm=1e6)
    assert same_bits(average_models(far, MODELS, EXAMPLES, SENT), weighted_mean(MODELS, EXAMPLES))
    alone = average_classes(chosen(clip_to_median=True), *columns(CLASSES[:1]), 5)
    torch.testing.assert_close(alone.mean, class_mean(*columns(CLASSES[:1]), 5).mean)


def test_clipped_updates_move_the_model_by_the_bound_at_most():
    hostile = [*MODELS[:4], {"w": torch.full((6,), 1e9), "n": torch.tensor(4)}]
    for options in (chosen(clip_norm=0.5), chosen(clip_norm=0.5, clip_to_median=True)):
        moved = average_models(options, hostile, EXAMPLES, SENT)["w"] - SENT["w"]
        assert float(moved.norm()) <= 0.5 + 1e-6


def test_a_model_that_moved_far_is_brought_back_to_the_median_distance():
    """By (0, 10) among (1, 0) and (2, 0): the median distance is 2."""
    start = {"w": torch.tensor([1.0, 1.0])}
    models = [{"w": start["w"] + torch.tensor(move)} for move in ([1.0, 0.0], [2.0, 0.0], [0.0, 10.0])]
    moved = average_models(chosen(clip_to_median=True), models, [1, 1, 2], start)["w"] - start["w"]
    torch.testing.assert_close(moved, torch.tensor([0.75, 1.0]))
    median = average_models(chosen(clip_to_median=True, model="median"), models, [1, 1, 2], start)["w"] - start["w"]
    torch.testing.assert_close(median, torch.tensor([1.0, 0.0]))


@pytest.mark.parametrize("statistic", ["median", "trimmed-mean"])
def test_head_gradients_are_middled_too(statistic):
    classes = torch.arange(2)
    clients = columns((classes, torch.full((2, 2, 3), float(value)), classes + 1) for value in (1, 2, 1e9))
    middle = average_classes(chosen(class_gradients=statistic), *clients, 2)
    assert torch.equal(middle.mean, torch.full((2, 2, 3), 2.0))
