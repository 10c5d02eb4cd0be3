"""The contrast by distance and the two gaps that its margin is taken from, against loops and triangles."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fedhpro_flwr.margin_contrast import margin_contrast, mean_gap, widest_gap

POINTS, CLASSES, WIDTH = 7, 4, 3
LABELS = torch.tensor([0, 1, 2, 3, 3, 0, 1])
TRIANGLE = torch.tensor([[0.0, 0.0], [3.0, 0.0], [0.0, 4.0]])  # sides 3, 4 and 5


def drawn(seed, *shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def contrast_by_hand(points, labels, centres, margin):
    """Point by point and class by class."""
    total = 0.0
    for x, label in zip(points, labels.tolist(), strict=True):
        away = [torch.sqrt(sum((a - b) ** 2 for a, b in zip(x, centre, strict=True))) for centre in centres]
        own = torch.exp(-(away[label] + margin))
        others = sum(torch.exp(-away[c]) for c in range(len(centres)) if c != label)
        total = total - torch.log(own / (own + others))
    return total / len(points)


@pytest.mark.parametrize("margin", [0.0, 0.7, 3.0])
def test_loss_and_gradients(margin):
    points, centres = drawn(0, POINTS, WIDTH).requires_grad_(), drawn(1, CLASSES, WIDTH).requires_grad_()
    wanted = contrast_by_hand(points, LABELS, centres, margin)
    loss = margin_contrast(points, LABELS, centres, margin)
    torch.testing.assert_close(loss, wanted, rtol=1e-10, atol=0)
    for gradient, by_hand in zip(
        torch.autograd.grad(loss, (points, centres)), torch.autograd.grad(wanted, (points, centres)), strict=True
    ):
        torch.testing.assert_close(gradient, by_hand, rtol=1e-8, atol=1e-12)


def test_a_case_to_check_by_hand():
    # One point at its own centre, the other centre 2 away, margin 1: -log(e^-1 / (e^-1 + e^-2)).
    centres = torch.tensor([[0.0], [2.0]], dtype=torch.float64)
    loss = margin_contrast(centres[:1], torch.tensor([0]), centres, 1.0)
    assert float(loss) == pytest.approx(math.log(1 + math.exp(-1)), rel=1e-12)


def test_a_point_on_its_centre_has_a_gradient_from_the_others_alone():
    centres = torch.tensor([[0.0, 0.0], [2.0, 0.0]])
    point = torch.zeros(1, 2, requires_grad=True)
    margin_contrast(point, torch.tensor([0]), centres, 0.0).backward()
    # d/dx of log(1 + e^-|x - p_1|) at distance 2, along the first coordinate
    assert point.grad[0, 0] == pytest.approx(math.exp(-2) / (1 + math.exp(-2)), rel=1e-5)
    assert point.grad[0, 1] == 0.0


def test_a_margin_or_a_distance_of_any_size_is_finite():
    centres = torch.tensor([[0.0], [1e4]])
    assert float(margin_contrast(centres[:1], torch.tensor([1]), centres, 1e4)) == pytest.approx(2e4)


@settings(max_examples=40)
@given(st.permutations(range(POINTS)), st.floats(0, 5), st.floats(0.01, 5), st.floats(-10, 10))
def test_order_place_and_margin(order, margin, more, shift):
    points, centres = drawn(2, POINTS, WIDTH), drawn(3, CLASSES, WIDTH)
    loss = margin_contrast(points, LABELS, centres, margin)
    torch.testing.assert_close(margin_contrast(points[list(order)], LABELS[list(order)], centres, margin), loss)
    torch.testing.assert_close(margin_contrast(points + shift, LABELS, centres + shift, margin), loss)
    assert margin_contrast(points, LABELS, centres, margin + more) > loss


def test_gaps_of_a_triangle():
    assert float(widest_gap(TRIANGLE)) == 5.0
    assert float(mean_gap(TRIANGLE)) == pytest.approx((3 + 3 + 4) / 3)  # each corner's nearest other


def test_gaps_of_random_centres():
    centres = drawn(4, 6, WIDTH)
    away = [[math.dist(a, b) for b in centres.tolist()] for a in centres.tolist()]
    nearest = [min(d for j, d in enumerate(row) if j != i) for i, row in enumerate(away)]
    assert float(widest_gap(centres)) == pytest.approx(max(map(max, away)), rel=1e-12)
    assert float(mean_gap(centres)) == pytest.approx(sum(nearest) / 6, rel=1e-12)


@pytest.mark.parametrize("gap", [widest_gap, mean_gap])
@pytest.mark.parametrize("count", [0, 1])
def test_fewer_than_two_centres_have_no_gap(gap, count):
    assert float(gap(TRIANGLE[:count])) == 0.0
