import math

import pytest
import torch
from torch.nn import functional as F

from fedhpro_flwr import calibration as module
from fedhpro_flwr.calibration import fresh_head, match_prototypes, retrain_head
from fedhpro_flwr.head import Head
from fedhpro_flwr.head_matching import HeadGradients, head_distance

DISTANCES = ["rowwise", "cosine", "mse"]


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def payload(classes, width):
    return draw(classes, classes, width, seed=3) * 0.1, draw(classes, classes, seed=4) * 0.1


def by_double_backward(prototypes, head, weight, bias, mask, *, steps, lr, distance):
    """The matching as defined: autograd through autograd's gradients of the head, class by class."""
    prototypes = prototypes.clone()
    leaves = [t.clone().requires_grad_() for t in head]
    for _ in range(steps):
        for c in mask.nonzero().flatten().tolist():
            f = prototypes[c].clone().requires_grad_()
            loss = F.cross_entropy(F.linear(f, *leaves), torch.full((len(f),), c))
            of_weight, of_bias = torch.autograd.grad(loss, leaves, create_graph=True)
            g = HeadGradients(of_weight[None], of_bias[None])
            now = head_distance(g, HeadGradients(weight[c : c + 1], bias[c : c + 1]), distance)
            (step,) = torch.autograd.grad(now.sum(), f)
            prototypes[c] -= lr * step
    return prototypes


# --- matching


@pytest.mark.parametrize("distance", DISTANCES)
@pytest.mark.parametrize(("classes", "per_class", "width"), [(4, 6, 5), (7, 2, 5)])  # gradients, and products
def test_matching_is_autograds_double_backward(distance, classes, per_class, width):
    head = Head(draw(classes, width, seed=1) * 0.3, draw(classes, seed=2))
    start, mask = draw(classes, per_class, width), torch.arange(classes) != 2
    weight, bias = payload(classes, width)
    options = {"steps": 4, "lr": 0.1, "distance": distance}
    moved = match_prototypes(start, head, weight, bias, mask, **options)
    expected = by_double_backward(start, head, weight, bias, mask, **options)
    torch.testing.assert_close(moved, expected, atol=1e-11, rtol=0)
    assert torch.equal(moved[2], start[2])
    assert not torch.equal(moved[0], start[0])


@pytest.mark.parametrize("distance", DISTANCES)
def test_both_ways_of_a_step_agree(monkeypatch, distance):
    head = Head(draw(5, 8, seed=1), draw(5, seed=2))
    start, mask, options = draw(5, 5, 8), torch.ones(5, dtype=torch.bool), {"steps": 10, "lr": 0.1}
    ways = []
    for step in (module._step_by_gradients, module._step_by_products):
        monkeypatch.setattr(module, "_step_by_gradients", step)
        monkeypatch.setattr(module, "_step_by_products", step)
        ways.append(match_prototypes(start, head, *payload(5, 8), mask, distance=distance, **options))
    torch.testing.assert_close(*ways, atol=1e-11, rtol=0)


@pytest.mark.parametrize("block", [1, 60, 1 << 20])
def test_blocks_of_classes_change_nothing(monkeypatch, block):
    head, start = Head(draw(6, 5, seed=1), draw(6, seed=2)), draw(6, 3, 5)
    mask, options = torch.tensor([1, 1, 0, 1, 1, 1]) > 0, {"steps": 3, "lr": 0.1}
    whole = match_prototypes(start, head, *payload(6, 5), mask, **options)
    monkeypatch.setattr(module, "_BLOCK_GRADIENTS", block)
    in_blocks = match_prototypes(start, head, *payload(6, 5), mask, **options)
    torch.testing.assert_close(in_blocks, whole, atol=1e-13, rtol=0)


def test_matching_keeps_what_it_must():
    head, start = Head(draw(3, 4, seed=1).float(), draw(3, seed=2).float()), draw(3, 2, 4).float()
    before, nobody = start.clone(), torch.zeros(3, dtype=torch.bool)
    moved = match_prototypes(start, head, *payload(3, 4), ~nobody, steps=2, lr=0.1)
    assert torch.equal(start, before) and moved.dtype == torch.float32
    assert torch.equal(match_prototypes(start, head, *payload(3, 4), nobody, steps=2, lr=0.1), start)
    assert torch.equal(match_prototypes(start, head, *payload(3, 4), ~nobody, steps=0, lr=0.1), start)


def test_matching_refuses_shapes():
    head, mask, (weight, bias) = Head(draw(3, 4), draw(3)), torch.ones(3, dtype=torch.bool), payload(3, 4)
    for wrong in (
        (head, weight[:2], bias, mask),
        (head, weight, bias[:2], mask),
        (head, weight, bias, mask[:2]),
        (Head(draw(3, 5), draw(3)), weight, bias, mask),
    ):
        with pytest.raises(ValueError, match=r"prototypes \(3, 2, 4\) need gradients of weight and bias"):
            match_prototypes(draw(3, 2, 4), *wrong, steps=1, lr=0.1)


# --- head


def test_fresh_head():
    head = fresh_head(50, 16, torch.Generator().manual_seed(0))
    assert head.weight.shape == (50, 16) and head.bias.shape == (50,)
    assert head.weight.abs().max() <= 0.25 and head.bias.abs().max() <= 0.25
    assert head.weight.std().item() == pytest.approx(0.25 / math.sqrt(3), rel=0.1)
    again = fresh_head(50, 16, torch.Generator().manual_seed(0))
    assert torch.equal(head.weight, again.weight) and torch.equal(head.bias, again.bias)


def test_retraining_by_hand():
    """One step on one prototype a class at +-1, from a zero head: W = lr/2 (1, -1) (1, ...)."""
    head = retrain_head(
        torch.tensor([[[1.0]], [[-1.0]]]),
        Head(torch.zeros(2, 1), torch.zeros(2)),
        torch.tensor([[1, 0]]),
        batch_size=2,
        lr=0.5,
    )
    assert head.weight.tolist() == [[0.25], [-0.25]]
    assert head.bias.tolist() == [0.0, 0.0]


def test_retraining_is_torchs_sgd():
    prototypes, start = draw(3, 5, 4), Head(draw(3, 4, seed=1), draw(3, seed=2))
    order = torch.stack([torch.randperm(15, generator=torch.Generator().manual_seed(e)) for e in range(6)])
    leaves = [t.clone().requires_grad_() for t in start]
    optimizer = torch.optim.SGD(leaves, lr=0.3)
    for epoch in order:
        for ids in epoch.split(4):  # 4, 4, 4 and 3
            optimizer.zero_grad()
            F.cross_entropy(F.linear(prototypes.reshape(15, 4)[ids], *leaves), ids // 5).backward()
            optimizer.step()
    head = retrain_head(prototypes, start, order, batch_size=4, lr=0.3)
    torch.testing.assert_close(head.weight, leaves[0].detach(), atol=1e-13, rtol=0)
    torch.testing.assert_close(head.bias, leaves[1].detach(), atol=1e-13, rtol=0)


def test_retraining_computes_in_the_heads_dtype():
    start = Head(draw(3, 4).float(), draw(3).float())
    head = retrain_head(draw(3, 2, 4), start, torch.arange(6)[None], batch_size=4, lr=0.1)
    assert head.weight.dtype == head.bias.dtype == torch.float32


@pytest.mark.parametrize("gap", [10, 14, 18, 20])
@pytest.mark.parametrize("per_class", [50, 5])  # without the head gradients, and with them
def test_a_step_of_confident_prototypes_is_exact_in_single_precision(gap, per_class):
    classes, width = 10, 64
    draw = torch.Generator().manual_seed(1)
    head = Head(torch.randn(classes, width, generator=draw), torch.zeros(classes))
    right = (torch.linalg.pinv(head.weight).T * gap)[:, None].repeat(1, per_class, 1)  # logits: gap, and zeros
    prototypes = right + 0.05 * torch.randn(classes, per_class, width, generator=draw)
    weight = 0.1 * torch.randn(classes, classes, width, generator=draw)
    bias, mask = 0.1 * torch.randn(classes, classes, generator=draw), torch.ones(classes, dtype=torch.bool)
    exact = match_prototypes(prototypes.double(), head, weight, bias, mask, steps=1, lr=100.0) - prototypes.double()
    found = match_prototypes(prototypes, head, weight, bias, mask, steps=1, lr=100.0).double() - prototypes.double()
    assert (found - exact).norm() < 1e-5 * exact.norm()
