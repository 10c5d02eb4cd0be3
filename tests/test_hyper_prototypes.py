import math

import pytest
import torch
from torch.nn import functional as F

from fedhpro_flwr import hyper_prototypes as module
from fedhpro_flwr.gradient_matching import matching_distance
from fedhpro_flwr.head import Head
from fedhpro_flwr.hyper_prototypes import HyperPrototypes, slot_weights

DISTANCES = ["cosine", "coordinate", "mse"]


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=seeded(seed), dtype=torch.float64)


def by_double_backward(vectors, target, mask, head, *, steps, lr, distance, mean_of_mean):
    """The update as defined, class by class and step by step, with autograd differentiating the gradient."""
    vectors = vectors.clone()
    for _ in range(steps):
        for c in range(len(vectors)):
            if not mask[c]:
                continue
            s = vectors[c].clone().requires_grad_()  # [K, D]
            losses = F.cross_entropy(head.logits(s), torch.full((len(s),), c), reduction="none")
            loss = losses.mean() if mean_of_mean else losses.sum()
            (gradients,) = torch.autograd.grad(loss, s, create_graph=True)
            distance_now = matching_distance(gradients.mean(dim=0), target[c], distance)
            (step,) = torch.autograd.grad(distance_now, s)
            vectors[c] -= lr * step
    return vectors


# --- start


def test_normal_start():
    s = HyperPrototypes.start(7, 5, 64, generator=seeded()).vectors
    assert s.shape == (7, 5, 64) and s.dtype == torch.float32
    assert abs(float(s.mean())) < 0.1 and abs(float(s.std()) - 1) < 0.1
    assert torch.equal(s, HyperPrototypes.start(7, 5, 64, generator=seeded()).vectors)
    assert not torch.equal(s, HyperPrototypes.start(7, 5, 64, generator=seeded(1)).vectors)


def test_orthogonal_start():
    start = HyperPrototypes.start(7, 5, 16, init="orthogonal", generator=seeded())
    means = start.means()
    torch.testing.assert_close(means @ means.T, torch.eye(7) * 16 / 5, atol=1e-5, rtol=0)
    for k in range(5):
        assert torch.equal(start.vectors[:, k], start.vectors[:, 0])
    assert torch.linalg.vector_norm(means[0]).item() == pytest.approx(math.sqrt(16 / 5), abs=1e-5)


def test_orthogonal_start_fills_the_space_but_no_more():
    HyperPrototypes.start(4, 2, 4, init="orthogonal", generator=seeded())
    with pytest.raises(ValueError, match="got 5 classes and width 4"):
        HyperPrototypes.start(5, 2, 4, init="orthogonal", generator=seeded())


def test_unknown_start_is_refused():
    with pytest.raises(ValueError, match="'normal' or 'orthogonal', got 'zeros'"):
        HyperPrototypes.start(5, 2, 4, init="zeros", generator=seeded())


# --- counts that differ by class


COUNTS = {0: 1, 2: 5}  # of 4 classes, the others 3


def differing(init="normal"):
    return HyperPrototypes.start(4, 3, 8, init=init, counts=COUNTS, generator=seeded())


def test_slots_that_a_class_does_not_use_are_zero():
    s = differing().vectors
    assert s.shape == (4, 5, 8)
    assert [int(s[c].ne(0).any(-1).sum()) for c in range(4)] == [1, 3, 5, 3]
    assert slot_weights(s).tolist()[0] == [1, 0, 0, 0, 0]
    torch.testing.assert_close(slot_weights(s).sum(1), torch.ones(4))
    torch.testing.assert_close(differing().means()[1], s[1, :3].mean(0))


def test_counts_that_are_equal_change_nothing():
    plain = HyperPrototypes.start(4, 3, 8, generator=seeded()).vectors
    assert torch.equal(
        HyperPrototypes.start(4, 9, 8, counts=dict.fromkeys(range(4), 3), generator=seeded()).vectors, plain
    )


def test_an_orthogonal_class_mean_has_its_norm_whatever_its_count():
    norms = torch.linalg.vector_norm(differing("orthogonal").means(), dim=1).square()
    torch.testing.assert_close(norms, torch.tensor([8 / 1, 8 / 3, 8 / 5, 8 / 3]))


@pytest.mark.parametrize("virtual_scale", ["mean", "mean-of-mean"])
@pytest.mark.parametrize("distance", DISTANCES)
def test_a_class_moves_as_it_would_with_its_own_vectors_alone(distance, virtual_scale):
    start = HyperPrototypes(differing().vectors.double())
    head, target, mask = Head(draw(4, 8), draw(4, seed=1)), draw(4, 8, seed=2) * 0.1, torch.tensor([True] * 4)
    options = {"steps": 3, "lr": 0.1, "distance": distance, "virtual_scale": virtual_scale}
    moved = start.update(target, mask, head, **options).vectors
    for c, count in enumerate((1, 3, 5, 3)):
        own = HyperPrototypes(start.vectors[:, :count].clone())
        own.vectors[c] = start.vectors[c, :count]
        alone = own.update(target, torch.arange(4) == c, head, **options).vectors[c]
        torch.testing.assert_close(moved[c, :count], alone, rtol=0, atol=1e-12)
        assert not moved[c, count:].any()


def test_a_count_for_no_class_is_refused():
    with pytest.raises(ValueError, match="a count is for class 4, there are 0 to 3"):
        HyperPrototypes.start(4, 3, 8, counts={4: 2}, generator=seeded())


# --- update


def test_update_by_hand():
    """C = 2, K = D = 1, W = (1, -1), b = 0, S = 0: softmax is (1/2, 1/2), g = (-1, 1); distance the squared error.

    For class 0: dg/ds = d(2 p - 2)/ds with p = sigmoid(2 s), that is 4 p (1 - p) = 1, so S moves by -lr 2 (g - r).
    """
    head = Head(torch.tensor([[1.0], [-1.0]]), torch.zeros(2))
    start = HyperPrototypes(torch.zeros(2, 1, 1))
    target = torch.tensor([[-0.5], [0.25]])
    moved = start.update(target, torch.tensor([True, True]), head, steps=1, lr=0.5, distance="mse")
    assert moved.vectors.flatten().tolist() == [0.5, -0.75]


@pytest.mark.parametrize("distance", DISTANCES)
@pytest.mark.parametrize("virtual_scale", ["mean", "mean-of-mean"])
@pytest.mark.parametrize(("classes", "width"), [(4, 9), (7, 3)])  # with the Gram matrix, and without: C > 2 D
def test_update_is_autograds_double_backward(distance, virtual_scale, classes, width):
    head = Head(draw(classes, width, seed=1) * 0.3, draw(classes, seed=2))
    start, target = HyperPrototypes(draw(classes, 3, width, seed=3)), draw(classes, width, seed=4) * 0.1
    mask = torch.arange(classes) != 1
    options = {"steps": 4, "lr": 0.05, "distance": distance}
    moved = start.update(target, mask, head, virtual_scale=virtual_scale, **options)
    expected = by_double_backward(
        start.vectors, target, mask, head, mean_of_mean=virtual_scale == "mean-of-mean", **options
    )
    torch.testing.assert_close(moved.vectors, expected, atol=1e-9, rtol=0)
    assert not torch.equal(moved.vectors[0], start.vectors[0])


@pytest.mark.parametrize("block", [1, 40, 1 << 20])
def test_blocks_of_classes_change_nothing(monkeypatch, block):
    head = Head(draw(6, 5, seed=1), draw(6, seed=2))
    start, target, mask = (
        HyperPrototypes(draw(6, 2, 5)),
        draw(6, 5, seed=4),
        torch.tensor([1, 1, 0, 1, 1, 1]) > 0,
    )
    whole = start.update(target, mask, head, steps=3, lr=0.1)
    monkeypatch.setattr(module, "_BLOCK_LOGITS", block)
    torch.testing.assert_close(
        start.update(target, mask, head, steps=3, lr=0.1).vectors, whole.vectors, atol=1e-13, rtol=0
    )


def test_update_keeps_what_it_must():
    head = Head(draw(4, 6, seed=1).float(), draw(4, seed=2).float())
    start = HyperPrototypes(draw(4, 2, 6).float())
    before, mask = start.vectors.clone(), torch.tensor([True, False, True, False])
    moved = start.update(draw(4, 6, seed=3), mask, head, steps=5, lr=0.1)
    assert torch.equal(start.vectors, before)  # a new object; this one stands
    assert torch.equal(moved.vectors[~mask], before[~mask])
    assert moved.vectors.dtype == torch.float32
    assert not torch.equal(moved.vectors[mask], before[mask])


def test_no_steps_or_no_class_is_no_move():
    head, start, target = Head(draw(3, 4), draw(3)), HyperPrototypes(draw(3, 2, 4)), draw(3, 4, seed=5)
    still = start.update(target, torch.ones(3, dtype=torch.bool), head, steps=0, lr=0.1)
    assert torch.equal(still.vectors, start.vectors)
    alone = start.update(target, torch.zeros(3, dtype=torch.bool), head, steps=9, lr=0.1)
    assert torch.equal(alone.vectors, start.vectors)
    assert alone.relative_movement(start) == 0.0


@pytest.mark.parametrize("distance", ["cosine", "mse"])
def test_matching_lowers_the_distance(distance):
    head, start = Head(draw(5, 8, seed=1) * 0.3, draw(5, seed=2)), HyperPrototypes(draw(5, 3, 8))
    target, mask = draw(5, 8, seed=6) * 0.2, torch.ones(5, dtype=torch.bool)

    def total(prototypes):
        p = head.logits(prototypes.vectors).softmax(-1).mean(dim=1)
        return float(matching_distance((p - torch.eye(5)) @ head.weight, target, distance).sum())

    assert total(start.update(target, mask, head, steps=30, lr=0.1, distance=distance)) < total(start)


@pytest.mark.parametrize(
    ("target", "mask", "head", "message"),
    [
        ((3, 4), 2, (3, 4), r"need a target \[3, 4\] and a class mask \[3\], got \[3, 4\] and \[2\]"),
        ((2, 4), 3, (3, 4), r"got \[2, 4\] and \[3\]"),
        ((3, 4), 3, (3, 5), r"3 classes and width 4 do not fit a head \[3, 5\]"),
    ],
)
def test_update_refuses_shapes(target, mask, head, message):
    with pytest.raises(ValueError, match=message):
        HyperPrototypes(torch.zeros(3, 2, 4)).update(
            torch.zeros(target),
            torch.ones(mask, dtype=torch.bool),
            Head(torch.zeros(head), torch.zeros(head[0])),
            steps=1,
            lr=0.1,
        )


def test_update_refuses_options():
    start, mask = HyperPrototypes(torch.zeros(3, 2, 4)), torch.ones(3, dtype=torch.bool)
    head = Head(torch.zeros(3, 4), torch.zeros(3))
    with pytest.raises(ValueError, match="'mean' or 'mean-of-mean', got 'sum'"):
        start.update(torch.zeros(3, 4), mask, head, steps=1, lr=0.1, virtual_scale="sum")
    with pytest.raises(ValueError, match="got 'l1'"):
        start.update(torch.zeros(3, 4), mask, head, steps=1, lr=0.1, distance="l1")


# --- reading


def test_class_means_and_movement_by_hand():
    before = HyperPrototypes(torch.tensor([[[3.0, 0.0], [0.0, 4.0]]]))
    assert before.means().tolist() == [[1.5, 2.0]]
    after = HyperPrototypes(torch.tensor([[[3.0, 0.0], [0.0, 3.0]]]))
    assert after.relative_movement(before) == pytest.approx(0.2)


@pytest.mark.parametrize("gap", [10, 14, 18, 20])
@pytest.mark.parametrize("width", [64, 3])  # through the Gram matrix of the head, and without it
def test_a_step_of_confident_prototypes_is_exact_in_single_precision(gap, width):
    """Where the softmax is nearly right the derivative is a sum of small numbers, not a difference of large ones."""
    classes, per_class = 10, 5
    head = Head(torch.randn(classes, width, generator=seeded(1)), torch.zeros(classes))
    rows = head.weight / head.weight.norm(dim=1, keepdim=True)
    scores = rows @ head.weight.T
    others = scores.masked_fill(torch.eye(classes, dtype=torch.bool), -torch.inf).amax(dim=1)
    own = scores.diagonal() - others  # how far a unit step towards its own row sets a class apart
    scale = gap / own.abs()
    vectors = (rows * scale[:, None])[:, None] + 0.01 * torch.randn(classes, per_class, width, generator=seeded(2))
    target = torch.randn(classes, width, generator=seeded(3))
    mask = own > 0.05 if width == 3 else torch.ones(classes, dtype=torch.bool)
    exact = HyperPrototypes(vectors.double()).update(target.double(), mask, head, steps=1, lr=5000.0)
    found = HyperPrototypes(vectors).update(target, mask, head, steps=1, lr=5000.0)
    step, wanted = found.vectors.double() - vectors.double(), exact.vectors - vectors.double()
    assert mask.any() and wanted.norm() > 1e-3  # far enough that rounding the vectors themselves does not show
    assert (step - wanted).norm() < 1e-5 * wanted.norm()
