import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from fedhpro_flwr.gradient_matching import matching_distance
from fedhpro_flwr.head import Head
from fedhpro_flwr.hyper_prototypes import HyperPrototypes

SIZES = st.fixed_dictionaries(
    {
        "classes": st.integers(1, 8),
        "per_class": st.integers(1, 4),
        "width": st.integers(1, 9),
        "seed": st.integers(0, 999),
    }
)
DISTANCES = st.sampled_from(["cosine", "coordinate", "mse"])
SMOOTH = st.sampled_from(["cosine", "mse"])
SCALES = st.sampled_from(["mean", "mean-of-mean"])


def problem(classes, per_class, width, seed):
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    head = Head(draw(classes, width), draw(classes))
    mask = torch.rand(classes, generator=generator) < 0.7
    return HyperPrototypes(draw(classes, per_class, width)), draw(classes, width), mask, head, generator


@given(SIZES, DISTANCES, SCALES)
def test_one_step_is_autograds_double_backward(sizes, distance, scale):
    start, target, _, head, _ = problem(**sizes)
    classes, per_class, _ = start.vectors.shape
    target = target * 0.1
    s = start.vectors.clone().requires_grad_()
    labels = torch.arange(classes).repeat_interleave(per_class)
    loss = F.cross_entropy(head.logits(s).flatten(0, 1), labels, reduction="sum")
    (gradients,) = torch.autograd.grad(loss, s, create_graph=True)
    g = gradients.mean(dim=1) / (1 if scale == "mean" else per_class)
    (step,) = torch.autograd.grad(matching_distance(g, target, distance).sum(), s)
    everyone = torch.ones(classes, dtype=torch.bool)
    moved = start.update(target, everyone, head, steps=1, lr=1.0, distance=distance, virtual_scale=scale)
    largest = float(step.abs().max())
    torch.testing.assert_close(start.vectors - moved.vectors, step, atol=1e-9 * max(1.0, largest), rtol=1e-9)


@given(SIZES, DISTANCES, st.integers(0, 5))
def test_classes_nobody_sent_keep_their_bits(sizes, distance, steps):
    start, target, mask, head, _ = problem(**sizes)
    moved = start.update(target, mask, head, steps=steps, lr=0.1, distance=distance)
    assert torch.equal(moved.vectors[~mask], start.vectors[~mask])


@given(SIZES, SMOOTH)
def test_renamed_classes_move_alike(sizes, distance):
    start, target, mask, head, generator = problem(**sizes)
    order = torch.randperm(len(mask), generator=generator)
    options = {"steps": 3, "lr": 0.1, "distance": distance}
    moved = start.update(target, mask, head, **options).vectors[order]
    renamed = HyperPrototypes(start.vectors[order]).update(
        target[order], mask[order], Head(head.weight[order], head.bias[order]), **options
    )
    torch.testing.assert_close(renamed.vectors, moved, atol=1e-9, rtol=1e-9)


@given(SIZES, SMOOTH)
def test_order_of_a_classes_prototypes_does_not_matter(sizes, distance):
    start, target, mask, head, generator = problem(**sizes)
    order = torch.randperm(start.vectors.shape[1], generator=generator)
    options = {"steps": 3, "lr": 0.1, "distance": distance}
    moved = start.update(target, mask, head, **options).vectors[:, order]
    reordered = HyperPrototypes(start.vectors[:, order]).update(target, mask, head, **options)
    torch.testing.assert_close(reordered.vectors, moved, atol=1e-9, rtol=1e-9)


@given(SIZES, DISTANCES, st.floats(0, 1e4), st.floats(0, 1e4))
def test_any_size_gives_numbers(sizes, distance, prototype_size, target_size):
    start, target, _, head, _ = problem(**sizes)
    vectors, everyone = start.vectors.float() * prototype_size, torch.ones(len(target), dtype=torch.bool)
    moved = HyperPrototypes(vectors).update(target * target_size, everyone, head, steps=1, lr=0.1, distance=distance)
    assert moved.vectors.isfinite().all()


@given(st.integers(1, 9), st.integers(1, 4), st.integers(0, 7), st.integers(0, 999))
def test_orthogonal_start_is_a_frame(classes, per_class, extra, seed):
    width = classes + extra
    generator = torch.Generator().manual_seed(seed)
    start = HyperPrototypes.start(classes, per_class, width, init="orthogonal", generator=generator)
    means = start.means().double()
    expected = torch.eye(classes, dtype=torch.float64) * width / per_class
    torch.testing.assert_close(means @ means.T, expected, atol=2e-5 * width, rtol=0)
