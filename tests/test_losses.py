import math

import pytest
import torch
from torch.nn import functional as F

from fedhpro_flwr.losses import Anchors, client_margin, hpal, hpcl, pair_margins

TEMPERATURE = 0.05


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def batch(size=7, classes=4, per_class=3, width=5):
    labels = torch.arange(size) % classes
    return draw(size, width, seed=1), labels, draw(classes, per_class, width, seed=2)


def cosine(a, b):
    return float(a @ b) / math.sqrt(float(a @ a) * float(b @ b))


def similarities(z, vectors):
    """s_ij, the mean of the K cosines, one by one."""
    return [[sum(cosine(zi, s) for s in of_class) / len(of_class) for of_class in vectors] for zi in z]


def huber(x):
    return 0.5 * x * x if abs(x) < 1 else abs(x) - 0.5


# --- anchors


def test_anchors_by_hand():
    anchors = Anchors.of(torch.tensor([[[3.0, 0.0], [0.0, 5.0]]], requires_grad=True))
    assert anchors.directions.tolist() == [[0.5, 0.5]]
    assert anchors.means.tolist() == [[1.5, 2.5]]
    torch.testing.assert_close(anchors.unit_means, torch.tensor([[3.0, 5.0]]) / math.sqrt(34))
    assert not anchors.means.requires_grad


# --- contrast


@pytest.mark.parametrize("margin", [0.0, 0.3])
def test_hpcl_of_the_paper_is_the_double_loop(margin):
    z, labels, vectors = batch()
    s, expected = similarities(z, vectors), 0.0
    for i, y in enumerate(labels.tolist()):
        others = sum(math.exp((s[i][j] + margin) / TEMPERATURE) for j in range(4) if j != y)
        expected += math.log(1 + others / math.exp(s[i][y] / TEMPERATURE)) / len(labels)
    loss = hpcl(z, labels, Anchors.of(vectors), temperature=TEMPERATURE, margin=margin)
    assert float(loss) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("margin", [0.0, 0.3, 40.0])
def test_hpcl_of_the_reference_is_the_double_loop(margin):
    z, labels, vectors = batch()
    s, expected = similarities(z, vectors), 0.0
    for i, y in enumerate(labels.tolist()):
        total = sum(math.exp(s[i][j] / TEMPERATURE) for j in range(4)) + margin
        expected += (math.log(total) - s[i][y] / TEMPERATURE) / len(labels)
    options = {"temperature": TEMPERATURE, "margin": margin, "form": "reference"}
    loss = hpcl(z, labels, Anchors.of(vectors), **options)
    assert float(loss) == pytest.approx(expected / len(labels), abs=1e-12)


def test_hpcl_by_hand():
    """Two opposite anchors and a feature on the right one: s = (1, -1), so log(1 + exp((-2 + d) / t))."""
    anchors, z, label = (
        Anchors.of(torch.tensor([[[2.0]], [[-3.0]]])),
        torch.tensor([[7.0]]),
        torch.tensor([0]),
    )
    assert hpcl(z, label, anchors, temperature=1.0).item() == pytest.approx(math.log1p(math.exp(-2)))
    assert hpcl(z, label, anchors, temperature=1.0, margin=2.0).item() == pytest.approx(math.log(2))
    assert hpcl(z, label, anchors, temperature=0.5, margin=2.0).item() == pytest.approx(math.log(2))


def test_hpcl_gradient_by_hand():
    """With P the softmax over s / t, the gradient by s_j is (P_j - [j = y]) / (t B), then back through z / |z|."""
    z, labels, vectors = batch()
    anchors = Anchors.of(vectors)
    z.requires_grad_()
    (gradient,) = torch.autograd.grad(hpcl(z, labels, anchors, temperature=TEMPERATURE), z)
    unit = F.normalize(z.detach(), dim=1)
    p = (unit @ anchors.directions.T / TEMPERATURE).softmax(dim=1) - F.one_hot(labels, 4)
    of_unit = p @ anchors.directions / (TEMPERATURE * len(labels))
    along = (of_unit * unit).sum(dim=1, keepdim=True) * unit
    expected = (of_unit - along) / torch.linalg.vector_norm(z.detach(), dim=1, keepdim=True)
    torch.testing.assert_close(gradient, expected, atol=1e-12, rtol=0)


def test_hpcl_without_a_margin_is_a_cross_entropy_in_both_forms():
    z, labels, vectors = batch()
    anchors = Anchors.of(vectors)
    paper = hpcl(z, labels, anchors, temperature=TEMPERATURE)
    reference = hpcl(z, labels, anchors, temperature=TEMPERATURE, form="reference")
    torch.testing.assert_close(reference * len(labels), paper, atol=1e-14, rtol=0)


@pytest.mark.parametrize("form", ["paper", "reference"])
@pytest.mark.parametrize("margin", [-0.1, math.nan, math.inf])
def test_hpcl_refuses_a_margin(form, margin):
    z, labels, vectors = batch()
    with pytest.raises(ValueError, match="margin must be >= 0 and finite"):
        hpcl(z, labels, Anchors.of(vectors), temperature=TEMPERATURE, margin=margin, form=form)


# --- alignment


def test_hpal_is_the_double_loop():
    z, labels, vectors = batch()
    anchors, totals = Anchors.of(vectors), {"paper": 0.0, "unit": 0.0}
    for i, y in enumerate(labels.tolist()):
        mean = sum(vectors[y]) / len(vectors[y])
        for q in range(5):
            totals["paper"] += huber(float(z[i, q] - mean[q]))
            totals["unit"] += huber(float(z[i, q] / z[i].norm() - mean[q] / mean.norm()))
    assert float(hpal(z, labels, anchors)) == pytest.approx(totals["paper"] / 7, abs=1e-12)
    assert float(hpal(z, labels, anchors, form="unit")) == pytest.approx(totals["unit"] / 7, abs=1e-12)
    assert float(hpal(z, labels, anchors, form="reference")) == pytest.approx(totals["unit"] / 35, abs=1e-12)


def test_hpal_by_hand():
    anchors = Anchors.of(torch.tensor([[[1.0, 1.0]], [[0.0, -4.0]]]))
    z, labels = torch.tensor([[1.5, 4.0], [0.0, -2.0]]), torch.tensor([0, 1])
    assert hpal(z, labels, anchors).item() == (0.125 + 2.5 + 0.0 + 1.5) / 2
    # The second feature lies on its anchor's direction, so only the first is off once lengths are gone.
    assert hpal(z[1:], labels[1:], anchors, form="unit").item() == 0.0


def test_hpal_of_the_reference_is_small():
    z, labels, vectors = batch(size=64, width=256)
    assert hpal(z, labels, Anchors.of(vectors), form="reference") <= 2 / 256


def test_unknown_forms_are_refused():
    z, labels, vectors = batch()
    with pytest.raises(ValueError, match="'paper' or 'reference', got 'unit'"):
        hpcl(z, labels, Anchors.of(vectors), temperature=TEMPERATURE, form="unit")
    with pytest.raises(ValueError, match="'paper', 'unit' or 'reference', got 'mean'"):
        hpal(z, labels, Anchors.of(vectors), form="mean")


# --- margin


def test_margin_by_hand():
    """Class means (0, 0), (3, 4) and (0, 8) of C = 4 classes: distances 5, 8 and 5, each in both orders, over 9."""
    features = torch.tensor([[0.0, 0.0], [2.0, 3.0], [4.0, 5.0], [0.0, 8.0]])
    labels = torch.tensor([0, 1, 1, 3])
    assert client_margin(features, labels, 4).item() == pytest.approx(36 / 9)
    assert client_margin(features, labels, 4, "inner").item() == pytest.approx(2 * 32 / 9)
    assert client_margin(features, labels, 4, "none").item() == 0.0
    # Unit lengths: (0, 0) stays, (0.6, 0.8) and (0, 1) are sqrt(0.4) apart.
    assert client_margin(features, labels, 4, "l2-unit").item() == pytest.approx(2 * (2 + math.sqrt(0.4)) / 9)


def test_margin_is_the_double_loop():
    features, labels = draw(20, 6), torch.arange(20) ** 2 % 7  # classes 0, 1, 2 and 4 of 7
    means = {c: features[labels == c].mean(dim=0) for c in (0, 1, 2, 4)}
    pairs = [(a, b) for a in means for b in means if a != b]
    expected = {
        "l2": sum(float((means[a] - means[b]).norm()) for a, b in pairs) / 36,
        "l2-unit": sum(float((F.normalize(means[a], dim=0) - F.normalize(means[b], dim=0)).norm()) for a, b in pairs)
        / 36,
        "inner": sum(float(means[a] @ means[b]) for a, b in pairs) / 36,
    }
    for reading, value in expected.items():
        assert float(client_margin(features, labels, 7, reading)) == pytest.approx(value, abs=1e-12)


@pytest.mark.parametrize("reading", ["l2", "l2-unit", "inner", "none"])
def test_one_class_has_no_margin(reading):
    assert client_margin(draw(5, 3), torch.full((5,), 2), 4, reading).item() == 0.0
    assert client_margin(draw(5, 3), torch.zeros(5, dtype=torch.int64), 1, reading).item() == 0.0
    assert client_margin(torch.zeros(0, 3), torch.zeros(0, dtype=torch.int64), 4, reading).item() == 0.0


def test_margin_refuses():
    with pytest.raises(ValueError, match=r"labels must lie in 0\.\.1"):
        client_margin(draw(3, 2), torch.tensor([0, 1, 2]), 2)
    with pytest.raises(ValueError, match="'l2', 'l2-unit', 'inner' or 'none', got 'l1'"):
        client_margin(draw(2, 2), torch.tensor([0, 1]), 2, "l1")


# --- margins of pairs


def test_hpcl_with_margins_of_pairs_is_the_double_loop():
    z, labels, vectors = batch()
    margins = draw(4, 4, seed=3).abs().fill_diagonal_(0)
    s, expected = similarities(z, vectors), 0.0
    for i, y in enumerate(labels.tolist()):
        others = sum(math.exp((s[i][j] + float(margins[y, j]) - s[i][y]) / TEMPERATURE) for j in range(4) if j != y)
        expected += math.log(1 + others) / len(labels)
    loss = hpcl(z, labels, Anchors.of(vectors), temperature=TEMPERATURE, margin=margins)
    assert float(loss) == pytest.approx(expected, abs=1e-12)


def test_equal_margins_of_pairs_are_the_one_margin():
    z, labels, vectors = batch()
    equal = torch.full((4, 4), 0.3, dtype=torch.float64).fill_diagonal_(0)
    losses = [hpcl(z, labels, Anchors.of(vectors), temperature=TEMPERATURE, margin=m) for m in (0.3, equal)]
    assert float(losses[0]) == pytest.approx(float(losses[1]), abs=1e-12)


def test_margins_of_pairs_by_hand():
    """Three class means on a line at 0, 1 and 4: distances 1, 3, 4, their mean 8/3; class 3 is absent."""
    features = torch.tensor([[0.0], [1.0], [4.0]], dtype=torch.float64)
    labels = torch.tensor([0, 1, 2])
    d = 2 * (1 + 3 + 4) / 9  # d_k, over (C - 1)^2
    same, far, near = (pair_margins(features, labels, 4, "l2", pairs) for pairs in ("same", "far", "near"))
    assert torch.equal(same, d * (1 - torch.eye(4, dtype=torch.float64)))
    wanted = torch.tensor([[0, 1, 4], [1, 0, 3], [4, 3, 0]], dtype=torch.float64) * 3 / 8
    torch.testing.assert_close(far[:3, :3], d * wanted)
    torch.testing.assert_close(near[:3, :3], d * (2 - wanted).fill_diagonal_(0))
    for spread in (far, near):
        assert torch.equal(spread[3], same[3]) and torch.equal(spread[:, 3], same[:, 3])
        assert float(spread[:3, :3].sum()) / 6 == pytest.approx(d)


def test_a_client_of_one_class_or_of_one_point_has_no_margins_or_equal_ones():
    one_class = pair_margins(draw(3, 2), torch.tensor([1, 1, 1]), 3, "l2-unit", "far")
    assert not one_class.any()
    one_point = pair_margins(torch.ones(4, 2), torch.tensor([0, 0, 1, 2]), 3, "l2", "near")
    assert one_point.isfinite().all() and not one_point.any()


@pytest.mark.parametrize("reading", ["inner", "none"])
def test_margins_of_pairs_need_a_distance(reading):
    with pytest.raises(ValueError, match="need a margin read as 'l2' or 'l2-unit'"):
        pair_margins(draw(2, 2), torch.tensor([0, 1]), 2, reading, "far")


def test_margins_of_pairs_are_the_papers():
    z, labels, vectors = batch()
    with pytest.raises(ValueError, match="margins of pairs need the form 'paper', got 'reference'"):
        hpcl(z, labels, Anchors.of(vectors), temperature=TEMPERATURE, margin=torch.zeros(4, 4), form="reference")


def test_anchors_leave_out_slots_that_a_class_does_not_use():
    vectors = torch.tensor([[[3.0, 0.0], [0.0, 5.0]], [[4.0, 0.0], [0.0, 0.0]]])
    anchors = Anchors.of(vectors)
    assert anchors.directions.tolist() == [[0.5, 0.5], [1.0, 0.0]]
    assert anchors.means.tolist() == [[1.5, 2.5], [4.0, 0.0]]


@pytest.mark.parametrize("width", [10, 48, 100, 256, 300, 512])
def test_the_inner_margin_of_features_without_a_common_unit_is_zero(width):
    """Of ReLU features, one class of which is dead, or with units of their own: no rounding may make it negative."""
    for seed in range(100):
        draw = torch.Generator().manual_seed(seed)
        z, labels = torch.rand(20, width, generator=draw), torch.arange(20) % 2
        dead = z * (labels == 0)[:, None]
        apart = z * ((torch.arange(width) % 2)[None] == labels[:, None])
        assert client_margin(dead, labels, 2, "inner") == client_margin(apart, labels, 2, "inner") == 0
