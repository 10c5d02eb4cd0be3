import math

import pytest
import torch
from head_distance_gradient import head_distance_gradient

from fedhpro_flwr.gradient_matching import EPSILON
from fedhpro_flwr.head_matching import HeadGradients, HeadProducts, head_distance

DISTANCES = ["rowwise", "cosine", "mse"]


def draw(seed, scale=1.0, classes=3, rows=4, width=5):
    generator = torch.Generator().manual_seed(seed)
    return HeadGradients(
        torch.randn(classes, rows, width, generator=generator, dtype=torch.float64) * scale,
        torch.randn(classes, rows, generator=generator, dtype=torch.float64) * scale,
    )


def term(a, b):
    dot = sum(x * y for x, y in zip(a, b, strict=True))
    return 1 - dot / (math.sqrt(sum(x * x for x in a)) * math.sqrt(sum(y * y for y in b)) + EPSILON)


@pytest.mark.parametrize("distance", DISTANCES)
def test_distance_is_the_loop(distance):
    g, target = draw(1), draw(2)
    for c in range(3):
        rows = [(g.weight[c, j].tolist(), target.weight[c, j].tolist()) for j in range(4)]
        rows.append((g.bias[c].tolist(), target.bias[c].tolist()))
        flat = [[x for row in rows for x in row[side]] for side in (0, 1)]
        expected = {
            "rowwise": sum(term(*row) for row in rows),
            "cosine": term(*flat),
            "mse": sum((x - y) ** 2 for x, y in zip(*flat, strict=True)),
        }[distance]
        assert float(head_distance(g, target, distance)[c]) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("distance", DISTANCES)
def test_gradient_is_autograds(distance):
    g, target = draw(3, 0.1), draw(4, 0.1)
    leaves = HeadGradients(g.weight.requires_grad_(), g.bias.requires_grad_())
    expected = torch.autograd.grad(head_distance(leaves, target, distance).sum(), leaves)
    actual = head_distance_gradient(HeadGradients(*(t.detach() for t in g)), target, distance)
    for closed, autograd in zip(actual, expected, strict=True):
        torch.testing.assert_close(closed, autograd, atol=1e-11, rtol=1e-12)


@pytest.mark.parametrize("distance", DISTANCES)
def test_zero_rows_give_numbers(distance):
    some, zero = draw(5), HeadGradients(torch.zeros(3, 4, 5).double(), torch.zeros(3, 4).double())
    for g, target in ((zero, zero), (zero, some), (some, zero)):
        assert head_distance(g, target, distance).isfinite().all()
        assert all(t.isfinite().all() for t in head_distance_gradient(g, target, distance))


def test_by_hand():
    g = HeadGradients(torch.tensor([[[3.0, 4.0], [0.0, 1.0]]]), torch.tensor([[1.0, 0.0]]))
    target = HeadGradients(torch.tensor([[[6.0, 8.0], [1.0, 0.0]]]), torch.tensor([[-2.0, 0.0]]))
    assert head_distance(g, target, "mse").item() == 25 + 2 + 9
    assert head_distance(g, target, "rowwise").item() == pytest.approx(0 + 1 + 2, abs=1e-5)
    assert head_distance(g, target, "cosine").item() == pytest.approx(1 - 48 / math.sqrt(27 * 105), abs=1e-6)
    products = HeadProducts.of(g, target)
    assert (products.weight.tolist(), products.bias.tolist()) == ([[50.0, 0.0]], [[-2.0]])
    assert products.total().tolist() == [[48.0]]


def test_unknown_distances_are_refused():
    for function in (head_distance, head_distance_gradient):
        with pytest.raises(ValueError, match="'rowwise', 'cosine' or 'mse', got 'coordinate'"):
            function(draw(1), draw(2), "coordinate")
