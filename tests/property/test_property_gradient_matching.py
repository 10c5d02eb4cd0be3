import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from fedhpro_flwr.gradient_matching import class_gradients, matching_distance, matching_gradient
from fedhpro_flwr.head import Head

SIZES = st.fixed_dictionaries(
    {
        "n": st.integers(1, 30),
        "classes": st.integers(1, 7),
        "width": st.integers(1, 9),
        "seed": st.integers(0, 999),
    }
)
DISTANCES = st.sampled_from(["cosine", "coordinate", "mse"])


def problem(n, classes, width, seed):
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    labels = torch.randint(0, classes, (n,), generator=generator)
    return draw(n, width), labels, Head(draw(classes, width), draw(classes)), generator


def equal(left, right, tolerance=1e-12):
    assert torch.equal(left.class_ids, right.class_ids) and torch.equal(left.counts, right.counts)
    for name in ("by_features", "by_head_weight", "by_head_bias"):
        torch.testing.assert_close(getattr(left, name), getattr(right, name), atol=tolerance, rtol=tolerance)


@given(SIZES)
def test_order_of_samples_does_not_matter(sizes):
    z, labels, head, generator = problem(**sizes)
    order = torch.randperm(len(z), generator=generator)
    shuffled = class_gradients(z[order], labels[order], head, head_gradients=True)
    equal(shuffled, class_gradients(z, labels, head, head_gradients=True))


@given(SIZES)
def test_renamed_classes_move_their_rows(sizes):
    z, labels, head, generator = problem(**sizes)
    name = torch.randperm(head.num_classes, generator=generator)  # class c is called name[c]
    old = torch.argsort(name)
    gradients = class_gradients(z, labels, head, head_gradients=True)
    renamed = class_gradients(z, name[labels], Head(head.weight[old], head.bias[old]), head_gradients=True)
    row = {c: p for p, c in enumerate(gradients.class_ids.tolist())}
    assert renamed.class_ids.tolist() == sorted(name[gradients.class_ids].tolist())
    for p, c in enumerate(renamed.class_ids.tolist()):
        q = row[int(old[c])]
        torch.testing.assert_close(renamed.by_features[p], gradients.by_features[q], atol=1e-12, rtol=0)
        torch.testing.assert_close(renamed.by_head_weight[p], gradients.by_head_weight[q][old], atol=1e-12, rtol=0)
        assert renamed.counts[p] == gradients.counts[q]


@given(SIZES)
def test_a_class_sees_its_own_samples_only(sizes):
    z, labels, head, _ = problem(**sizes)
    gradients = class_gradients(z, labels, head)
    for p, c in enumerate(gradients.class_ids.tolist()):
        alone = class_gradients(z[labels == c], labels[labels == c], head)
        torch.testing.assert_close(alone.by_features[0], gradients.by_features[p], atol=1e-12, rtol=0)


@given(SIZES)
def test_samples_twice_are_the_same_mean(sizes):
    z, labels, head, _ = problem(**sizes)
    twice = class_gradients(z.repeat(2, 1), labels.repeat(2), head)
    once = class_gradients(z, labels, head)
    torch.testing.assert_close(twice.by_features, once.by_features, atol=1e-12, rtol=0)
    assert torch.equal(twice.counts, 2 * once.counts)
    halved = class_gradients(z.repeat(2, 1), labels.repeat(2), head, scale="per-batch")
    torch.testing.assert_close(halved.by_features * twice.counts[:, None], once.by_features, atol=1e-12, rtol=0)


@given(SIZES)
def test_one_gradient_of_the_whole_batch(sizes):
    """The classes' gradients, weighted by their counts, are autograd's of the summed loss with respect to W and b."""
    z, labels, head, _ = problem(**sizes)
    leaves = [t.clone().requires_grad_() for t in head]
    whole = torch.autograd.grad(F.cross_entropy(F.linear(z, *leaves), labels, reduction="sum"), leaves)
    gradients = class_gradients(z, labels, head, head_gradients=True)
    counts = gradients.counts.double()
    torch.testing.assert_close(
        torch.einsum("p,pcd->cd", counts, gradients.by_head_weight), whole[0], atol=1e-11, rtol=0
    )
    torch.testing.assert_close(counts @ gradients.by_head_bias, whole[1], atol=1e-11, rtol=0)
    torch.testing.assert_close(gradients.by_head_bias.sum(dim=1), torch.zeros(len(counts)).double(), atol=1e-12, rtol=0)


@given(SIZES, st.floats(0, 1e6))
def test_features_of_any_size_give_numbers(sizes, size):
    z, labels, head, _ = problem(**sizes)
    gradients = class_gradients(z.float() * size, labels, head, head_gradients=True)
    assert gradients.by_features.isfinite().all() and gradients.by_head_weight.isfinite().all()


@given(SIZES, DISTANCES, st.floats(1e-3, 1e3))
def test_distances_stay_in_their_range(sizes, distance, size):
    z, _, head, _ = problem(**sizes)
    g, target = z * size, head.weight[:1]
    value = matching_distance(g, target, distance)
    most = {"cosine": 2.0, "coordinate": 2.0 * z.shape[1], "mse": float("inf")}[distance]
    assert (value >= -1e-12).all() and (value <= most + 1e-12).all()


@given(SIZES, DISTANCES)
def test_closed_gradient_is_autograds(sizes, distance):
    z, _, head, _ = problem(**sizes)
    g, target = (0.1 * z).requires_grad_(), 0.1 * head.weight[:1]
    (expected,) = torch.autograd.grad(matching_distance(g, target, distance).sum(), g)
    torch.testing.assert_close(matching_gradient(g.detach(), target, distance), expected, atol=1e-9, rtol=1e-9)


@given(SIZES, st.floats(1.0, 1e3))
def test_cosine_looks_at_the_direction_only(sizes, size):
    z, _, head, _ = problem(**sizes)
    one, other = (matching_distance(z, s * head.weight[:1], "cosine") for s in (1.0, size))
    norms = torch.linalg.vector_norm(z, dim=-1) * torch.linalg.vector_norm(head.weight[0])
    assert ((one - other).abs() <= 1e-6 / norms + 1e-12).all()  # all that epsilon can do
