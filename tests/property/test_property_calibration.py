import torch
from hypothesis import given
from hypothesis import strategies as st

from fedhpro_flwr.calibration import match_prototypes, retrain_head
from fedhpro_flwr.head import Head

SIZES = st.fixed_dictionaries(
    {
        "classes": st.integers(1, 6),
        "per_class": st.integers(1, 6),
        "width": st.integers(1, 8),
        "seed": st.integers(0, 999),
    }
)
DISTANCES = st.sampled_from(["rowwise", "cosine", "mse"])


def problem(classes, per_class, width, seed):
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    mask = torch.rand(classes, generator=generator) < 0.7
    head, gradients = (
        Head(draw(classes, width), draw(classes)),
        (draw(classes, classes, width), draw(classes, classes)),
    )
    return draw(classes, per_class, width), head, *gradients, mask, generator


@given(SIZES, DISTANCES, st.integers(0, 4))
def test_classes_nobody_sent_keep_their_bits(sizes, distance, steps):
    start, head, weight, bias, mask, _ = problem(**sizes)
    moved = match_prototypes(start, head, weight, bias, mask, steps=steps, lr=0.1, distance=distance)
    assert torch.equal(moved[~mask], start[~mask])
    assert moved.isfinite().all()


@given(SIZES, DISTANCES)
def test_order_of_a_classes_prototypes_does_not_matter(sizes, distance):
    start, head, weight, bias, mask, generator = problem(**sizes)
    order = torch.randperm(start.shape[1], generator=generator)
    options = {"steps": 2, "lr": 0.1, "distance": distance}
    moved = match_prototypes(start, head, weight, bias, mask, **options)
    reordered = match_prototypes(start[:, order], head, weight, bias, mask, **options)
    torch.testing.assert_close(reordered, moved[:, order], atol=1e-9, rtol=1e-9)


@given(SIZES, DISTANCES)
def test_renamed_classes_move_alike(sizes, distance):
    start, head, weight, bias, mask, generator = problem(**sizes)
    order = torch.randperm(len(mask), generator=generator)
    options = {"steps": 2, "lr": 0.1, "distance": distance}
    moved = match_prototypes(start, head, weight, bias, mask, **options)[order]
    renamed = match_prototypes(
        start[order],
        Head(head.weight[order], head.bias[order]),
        weight[order][:, order],
        bias[order][:, order],
        mask[order],
        **options,
    )
    torch.testing.assert_close(renamed, moved, atol=1e-9, rtol=1e-9)


@given(SIZES, st.integers(1, 9))
def test_a_head_starts_where_it_is_told_and_moves_downhill(sizes, batch_size):
    prototypes, start, _, _, _, generator = problem(**sizes)
    options = {"batch_size": batch_size, "lr": 1e-3}
    still = retrain_head(prototypes, start, [], **options)
    assert torch.equal(still.weight, start.weight) and torch.equal(still.bias, start.bias)

    def loss(head):
        labels = torch.arange(len(prototypes)).repeat_interleave(prototypes.shape[1])
        return torch.nn.functional.cross_entropy(head.logits(prototypes).flatten(0, 1), labels)

    orders = (torch.randperm(prototypes[..., 0].numel(), generator=generator) for _ in range(20))
    assert loss(retrain_head(prototypes, start, orders, **options)) <= loss(start) + 1e-9


@given(SIZES)
def test_order_within_a_full_batch_does_not_matter(sizes):
    prototypes, start, _, _, _, generator = problem(**sizes)
    samples = prototypes[..., 0].numel()
    order = torch.stack([torch.randperm(samples, generator=generator) for _ in range(3)])
    options = {"batch_size": samples, "lr": 0.1}
    one = retrain_head(prototypes, start, order, **options)
    other = retrain_head(prototypes, start, torch.arange(samples).repeat(3, 1), **options)
    torch.testing.assert_close(one.weight, other.weight, atol=1e-12, rtol=0)
