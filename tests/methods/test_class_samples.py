"""Which samples the class gradients are taken on."""

import itertools

import pytest
import torch

from fedhpro_flwr.client_data import ClientData
from fedhpro_flwr.config import RunConfig
from fedhpro_flwr.data import Split
from fedhpro_flwr.methods.class_samples import draw_class_samples
from fedhpro_flwr.seeding import Draws

LABELS = torch.tensor([2, 0, 2, 2, 0, 2, 2])


def vectors():
    """Every sample is its own number, so it can be recognised."""
    return ClientData(Split(torch.arange(7.0)[:, None], LABELS), None, (3.0,), (2.0,))


def numbers_of(drawn):
    """Which samples were drawn; they come normalised, as encoders take them."""
    return (drawn.inputs.flatten() * 2 + 3).long()


def options(**changes):
    return RunConfig.parse(
        {f"class-gradients.{key.replace('_', '-')}": value for key, value in changes.items()}
    ).class_gradients


def test_at_most_so_many_of_each_class_in_each_repeat_without_replacement():
    drawn = draw_class_samples(vectors(), 4, options(samples_per_class=3, repeats=2), Draws(0, 1, 5))
    assert drawn.per_repeat.tolist() == [2, 0, 3, 0]
    assert drawn.labels.tolist() == [0, 0, 2, 2, 2] * 2
    numbers = numbers_of(drawn)
    assert torch.equal(LABELS[numbers], drawn.labels)
    for repeat in (numbers[:5], numbers[5:]):
        assert len(repeat.unique()) == 5
        assert set(repeat[:2].tolist()) == {1, 4}


def test_zero_means_all():
    drawn = draw_class_samples(vectors(), 3, options(samples_per_class=0), Draws(0, 1, 5))
    assert sorted(numbers_of(drawn).tolist()) == list(range(7))


def test_the_same_place_draws_the_same_and_another_round_does_not():
    chosen = [
        draw_class_samples(vectors(), 3, options(samples_per_class=2, repeats=8), Draws(0, server_round, 5)).inputs
        for server_round in (1, 1, 2)
    ]
    assert torch.equal(chosen[0], chosen[1])
    assert not torch.equal(chosen[0], chosen[2])


def test_images_are_augmented_once_a_class_and_vectors_are_refused():
    pixels = torch.arange(64, dtype=torch.uint8).view(1, 1, 8, 8).repeat(4, 1, 1, 1)
    images = ClientData(Split(pixels, torch.tensor([0, 0, 1, 1])), None, (0.5,), (0.5,))
    drawn = draw_class_samples(images, 2, options(augment="dsa", samples_per_class=2), Draws(3, 1, 0))
    assert drawn.inputs.shape == (4, 1, 8, 8)
    assert torch.equal(drawn.inputs[0], drawn.inputs[1])  # equal images of a class get the same transform
    assert torch.equal(drawn.inputs[2], drawn.inputs[3])
    plain = images.encoder_inputs(pixels[:1])[0]
    assert not any(torch.equal(*pair) for pair in itertools.combinations((plain, drawn.inputs[0], drawn.inputs[2]), 2))
    with pytest.raises(ValueError, match=r"class-gradients\.augment = 'dsa' needs images"):
        draw_class_samples(vectors(), 3, options(augment="dsa"), Draws(0, 1, 0))
