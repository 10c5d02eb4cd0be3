import math

import pytest
import torch
from torch.nn import functional as F

from fedhpro_flwr.gradient_matching import (
    EPSILON,
    class_gradients,
    matching_distance,
    matching_gradient,
    prediction_errors,
)
from fedhpro_flwr.head import Head

DISTANCES = ["cosine", "coordinate", "mse"]


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def random_head(classes, width, seed=1):
    return Head(draw(classes, width, seed=seed), draw(classes, seed=seed + 1))


# --- class gradients


def test_class_gradient_by_hand():
    """Two classes, zero head bias, one feature: softmax of (z, -z) at z = 0 is (1/2, 1/2), so (p - e_0) W = -1."""
    head = Head(torch.tensor([[1.0], [-1.0]]), torch.zeros(2))
    gradients = class_gradients(torch.zeros(4, 1), torch.tensor([0, 0, 0, 0]), head, head_gradients=True)
    assert gradients.class_ids.tolist() == [0]
    assert gradients.counts.tolist() == [4]
    assert gradients.by_features.tolist() == [[-1.0]]
    assert gradients.by_head_bias.tolist() == [[-0.5, 0.5]]
    assert gradients.by_head_weight.tolist() == [[[0.0], [0.0]]]


def test_class_gradients_are_autograds_sample_by_sample():
    z, labels, head = draw(23, 6), torch.arange(23) ** 2 % 5, random_head(5, 6)  # classes 0, 1 and 4
    gradients = class_gradients(z, labels, head, head_gradients=True)
    assert gradients.class_ids.tolist() == [0, 1, 4]
    for p, c in enumerate([0, 1, 4]):
        of_z, of_w, of_b, n = torch.zeros(6), torch.zeros(5, 6), torch.zeros(5), 0
        for i in range(23):
            if labels[i] != c:
                continue
            leaves = [t.clone().requires_grad_() for t in (z[i : i + 1], *head)]
            loss = F.cross_entropy(F.linear(*leaves), labels[i : i + 1])
            dz, dw, db = torch.autograd.grad(loss, leaves)
            of_z, of_w, of_b, n = of_z + dz[0], of_w + dw, of_b + db, n + 1
        torch.testing.assert_close(gradients.by_features[p], of_z / n, atol=1e-14, rtol=0)
        torch.testing.assert_close(gradients.by_head_weight[p], of_w / n, atol=1e-14, rtol=0)
        torch.testing.assert_close(gradients.by_head_bias[p], of_b / n, atol=1e-14, rtol=0)
        assert gradients.counts[p] == n


def test_per_batch_divides_once_more_by_the_samples_of_a_draw():
    z, labels, head = draw(6, 4), torch.tensor([0, 0, 2, 2, 2, 2]), random_head(3, 4)
    mean = class_gradients(z, labels, head).by_features
    once = class_gradients(z, labels, head, scale="per-batch").by_features
    torch.testing.assert_close(once, mean / torch.tensor([[2.0], [4.0]]), atol=1e-15, rtol=0)
    two_draws = class_gradients(z, labels, head, scale="per-batch", batch_counts=torch.tensor([1, 0, 2])).by_features
    torch.testing.assert_close(two_draws, mean / torch.tensor([[1.0], [2.0]]), atol=1e-15, rtol=0)


def test_per_batch_is_the_mean_gradient_of_a_mean_loss():
    z, labels, head = draw(5, 4).requires_grad_(), torch.full((5,), 1), random_head(3, 4)
    (gradient,) = torch.autograd.grad(F.cross_entropy(head.logits(z), labels), z)
    batched = class_gradients(z, labels, head, scale="per-batch").by_features
    torch.testing.assert_close(batched[0], gradient.mean(dim=0), atol=1e-15, rtol=0)


def test_counts_of_a_selection_are_the_clients():
    z, labels, head = draw(3, 4), torch.tensor([0, 2, 2]), random_head(3, 4)
    assert class_gradients(z, labels, head, counts=torch.tensor([70, 9, 30])).counts.tolist() == [70, 30]


def test_no_sample_gives_no_class():
    head = random_head(3, 4)
    gradients = class_gradients(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64), head, head_gradients=True)
    assert gradients.by_features.shape == (0, 4)
    assert gradients.by_head_weight.shape == (0, 3, 4)
    assert gradients.counts.tolist() == gradients.class_ids.tolist() == []


def test_class_gradients_keep_no_graph():
    z, head = draw(2, 4).requires_grad_(), random_head(3, 4)
    assert not class_gradients(z, torch.tensor([0, 1]), head).by_features.requires_grad


def test_a_sure_sample_still_has_a_direction():
    """In float32 1 - p is 0 for p = 1 - 1e-9, but the others' sum is not."""
    head = Head(torch.eye(2), torch.zeros(2))
    gradients = class_gradients(torch.tensor([[20.7, 0.0]]), torch.tensor([0]), head)
    expected = 1 / (1 + math.exp(20.7))
    torch.testing.assert_close(gradients.by_features, torch.tensor([[-expected, expected]]), atol=0, rtol=1e-5)


@pytest.mark.parametrize(
    ("z", "labels", "message"),
    [
        (torch.zeros(2, 4), torch.tensor([0, 3]), r"labels must lie in 0\.\.2, got 0\.\.3"),
        (torch.zeros(2, 4), torch.tensor([-1, 0]), r"labels must lie in 0\.\.2, got -1\.\.0"),
        (torch.zeros(2, 4), torch.tensor([0]), r"features must be \[n, D\] with labels \[n\]"),
        (torch.zeros(2, 5), torch.tensor([0, 1]), "features are 5 wide but the head takes 4"),
    ],
)
def test_class_gradients_refuse(z, labels, message):
    with pytest.raises(ValueError, match=message):
        class_gradients(z, labels, random_head(3, 4))


def test_class_gradients_refuse_an_unknown_scale():
    with pytest.raises(ValueError, match="'per-sample' or 'per-batch', got 'sum'"):
        class_gradients(torch.zeros(1, 4), torch.tensor([0]), random_head(3, 4), scale="sum")


def test_prediction_errors_by_hand():
    p = torch.tensor([[0.25, 0.5, 0.25], [0.125, 0.125, 0.75]])
    errors = prediction_errors(p, torch.tensor([1, 2]))
    assert errors.tolist() == [[0.25, -0.5, 0.25], [0.125, 0.125, -0.25]]
    assert p[0, 1] == 0.5  # the probabilities stay


# --- distances


def test_distances_by_hand():
    g, target = torch.tensor([[3.0, 4.0, 0.0], [4.0, 3.0, 0.0]], dtype=torch.float64)
    assert matching_distance(g, target, "cosine") == pytest.approx(1 - 24 / (25 + EPSILON))
    assert matching_distance(g, target, "coordinate") == pytest.approx(2 * (1 - 12 / (12 + EPSILON)) + 1)
    assert matching_distance(g, -target, "coordinate") == pytest.approx(2 * (1 + 12 / (12 + EPSILON)) + 1)
    assert matching_distance(g, target, "mse") == 2.0


@pytest.mark.parametrize("distance", DISTANCES)
def test_distance_is_the_loop(distance):
    g, target = draw(4, 7, seed=3), draw(4, 7, seed=4)
    for c in range(4):
        dot = sum(float(g[c, d] * target[c, d]) for d in range(7))
        norms = math.sqrt(sum(float(g[c, d]) ** 2 for d in range(7)) * sum(float(x) ** 2 for x in target[c]))
        expected = {
            "cosine": 1 - dot / (norms + EPSILON),
            "coordinate": sum(
                1 - float(r * x) / (abs(float(r)) * abs(float(x)) + EPSILON)
                for r, x in zip(target[c], g[c], strict=True)
            ),
            "mse": sum(float(x - r) ** 2 for r, x in zip(target[c], g[c], strict=True)),
        }[distance]
        assert float(matching_distance(g, target, distance)[c]) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("distance", DISTANCES)
def test_gradient_is_autograds(distance):
    g, target = draw(5, 8, seed=5) * 1e-2, draw(5, 8, seed=6) * 1e-2
    g[1] = 0.0
    g[2, :3] = 0.0
    target[3] = 0.0
    g.requires_grad_()
    (expected,) = torch.autograd.grad(matching_distance(g, target, distance).sum(), g)
    torch.testing.assert_close(matching_gradient(g.detach(), target, distance), expected, atol=1e-9, rtol=1e-12)


@pytest.mark.parametrize("distance", DISTANCES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_zero_vectors_give_numbers(distance, dtype):
    zero, some = torch.zeros(3, 4, dtype=dtype), torch.ones(3, 4, dtype=dtype)
    for g, target in ((zero, zero), (zero, some), (some, zero)):
        assert matching_distance(g, target, distance).isfinite().all()
        assert matching_gradient(g, target, distance).isfinite().all()


def test_zero_vector_is_pulled_along_the_target():
    pulled = matching_gradient(torch.zeros(1, 2), torch.tensor([[1e-3, -2e-3]]), "cosine")
    torch.testing.assert_close(pulled, torch.tensor([[-1e3, 2e3]]))


def test_unknown_distances_are_refused():
    for function in (matching_distance, matching_gradient):
        with pytest.raises(ValueError, match="'cosine', 'coordinate' or 'mse', got 'l1'"):
            function(torch.zeros(1, 2), torch.zeros(1, 2), "l1")
