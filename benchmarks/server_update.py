"""The server's own arithmetic: the update of the hyper-prototypes in closed form, and the calibration.

Beside the update stands the reference's, which it replaces: a loop over classes (for the coordinate distance also over
the D numbers of a gradient) that differentiates twice. It is timed over a few classes and steps, then extrapolated.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial

import torch
from measure import MEGABYTE, Row, best, once, peak_memory
from torch import Tensor
from torch.nn import functional as F

from fedhpro_flwr.calibration import fresh_head, match_prototypes, retrain_head
from fedhpro_flwr.gradient_matching import EPSILON, ClassGradients, MatchingDistance, class_gradients
from fedhpro_flwr.head import Head
from fedhpro_flwr.hyper_prototypes import HyperPrototypes

UPDATE, CALIBRATION = "hyper-prototype update", "calibration"
STEPS, PER_CLASS, WIDTH, LR = 30, 5, 256, 0.1
TARGETS = {10: 0.010, 100: 0.060, 200: 0.200}  # seconds, by C
DISTANCES: tuple[MatchingDistance, ...] = ("cosine", "coordinate")


def update_rows() -> Iterator[Row]:
    """Time of the update, of the loop it replaces, their difference, and the update at C = 1000 with its memory."""
    for num_classes, target in TARGETS.items():
        for distance in DISTANCES:
            start, mean, head = problem(num_classes, PER_CLASS, WIDTH)
            everyone = torch.ones(num_classes, dtype=torch.bool)

            taken = best(partial(start.update, mean, everyone, head, steps=STEPS, lr=LR, distance=distance), repeats=12)
            # Every class and step costs the loop the same: few of them, scaled up.
            classes, steps = (10, 2) if num_classes == 10 else (5, 1)
            some = torch.arange(num_classes) < classes
            loop = once(partial(naive, start.vectors, mean, some, head, steps, distance))
            loop = loop.scaled(STEPS / steps * num_classes / classes)
            yield Row(
                UPDATE,
                f"C={num_classes}, {distance}: {STEPS} steps, K={PER_CLASS}, D={WIDTH}",
                taken.wall * 1e3,
                "ms",
                taken.cpu * 1e3,
                target * 1e3,
                note=f"double-backward loop {loop.cpu:.3g} CPU s (extrapolated from {steps} steps, {classes} classes): "
                f"{loop.cpu / taken.cpu:,.0f}x",
            )
    for distance in DISTANCES:
        yield Row(
            UPDATE,
            f"{distance}: max |closed form - loop|, float64, C=7, K=3, D=16, 10 steps",
            difference(distance),
            "",
            target=1e-9,
            note="same numbers, so the comparison is fair",
        )
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        wall, cpu, memory, idle = pool.submit(large_update).result()
    what = f"C=1000, D=512, cosine: {STEPS} steps, K={PER_CLASS}"
    yield Row(UPDATE, what, wall, "s", cpu, 10.0, note="once, in a process of its own")
    note = f"of which {idle / MEGABYTE:.0f} MB before the update (Python, torch, the problem)"
    yield Row(UPDATE, f"{what}: peak memory", memory / MEGABYTE, "MB", target=2000.0, note=note)


def calibration_rows() -> Iterator[Row]:
    """Matching of the calibration prototypes and re-training of the head, at the reference's sizes."""
    classes, per_class = 10, 50
    generator = torch.Generator().manual_seed(3)
    gradients, head = client_gradients(classes, WIDTH, generator)
    assert gradients.by_head_weight is not None and gradients.by_head_bias is not None
    weight, bias, everyone = gradients.by_head_weight, gradients.by_head_bias, torch.ones(classes, dtype=torch.bool)
    prototypes = torch.randn(classes, per_class, WIDTH, generator=generator)
    start = fresh_head(classes, WIDTH, generator)
    matching = best(lambda: match_prototypes(prototypes, head, weight, bias, everyone, steps=100, lr=LR), repeats=5)
    order = torch.stack([torch.randperm(classes * per_class, generator=generator) for _ in range(100)])
    training = best(lambda: retrain_head(prototypes, start, order, batch_size=50, lr=0.01), repeats=5)
    both = matching.plus(training)
    size = f"C={classes}, M={per_class}, D={WIDTH}"
    yield Row(CALIBRATION, f"matching, 100 steps, {size}", matching.wall, "s", matching.cpu)
    yield Row(CALIBRATION, f"head re-training, 100 epochs, {size}", training.wall, "s", training.cpu)
    yield Row(CALIBRATION, "together", both.wall, "s", both.cpu, 0.2)


def client_gradients(num_classes: int, width: int, generator: torch.Generator) -> tuple[ClassGradients, Head]:
    """A head, and class gradients under it of a few random non-negative features a class."""
    head = fresh_head(num_classes, width, generator)
    samples = 20 if num_classes <= 200 else 2  # the large problem must not hide the memory of its update
    features = torch.randn(num_classes * samples, width, generator=generator).relu()
    labels = torch.arange(num_classes).repeat_interleave(samples)
    return class_gradients(features, labels, head, head_gradients=num_classes <= 10), head


def problem(
    num_classes: int, per_class: int, width: int, dtype: torch.dtype = torch.float32
) -> tuple[HyperPrototypes, Tensor, Head]:
    """S [C, K, D], target [C, D] and head, drawn from a fixed seed."""
    generator = torch.Generator().manual_seed(num_classes)
    gradients, head = client_gradients(num_classes, width, generator)
    start = HyperPrototypes.start(num_classes, per_class, width, generator=generator)
    head = Head(head.weight.to(dtype), head.bias.to(dtype))
    return HyperPrototypes(start.vectors.to(dtype)), gradients.by_features.to(dtype), head


def naive(
    vectors: Tensor, target: Tensor, class_mask: Tensor, head: Head, steps: int, distance: MatchingDistance
) -> Tensor:
    """M steps by double backward, class after class, and number after number for the coordinate distance."""
    vectors = vectors.clone()
    for _ in range(steps):
        leaf = vectors.detach().requires_grad_()
        total = leaf.new_zeros(())
        for label in class_mask.nonzero().flatten().tolist():
            own = leaf[label]  # [K, D]
            loss = F.cross_entropy(head.logits(own), torch.full((len(own),), label))
            (gradient,) = torch.autograd.grad(loss, own, create_graph=True)  # [K, D], each 1/K of its own
            g, r = gradient.sum(dim=0), target[label]  # [D]
            if distance == "coordinate":
                for g_d, r_d in zip(g, r, strict=True):
                    total = total + (1 - r_d * g_d / (r_d.abs() * g_d.abs() + EPSILON))
            else:
                total = total + (1 - (r * g).sum() / (r.norm() * g.norm() + EPSILON))
        (step,) = torch.autograd.grad(total, leaf)
        vectors = vectors - LR * step
    return vectors


def difference(distance: MatchingDistance) -> float:
    """The largest difference of the closed form from the loop, one class in seven masked out."""
    start, target, head = problem(7, 3, 16, torch.float64)
    some = torch.arange(7) != 4
    closed = start.update(target, some, head, steps=10, lr=LR, distance=distance).vectors
    return float((closed - naive(start.vectors, target, some, head, 10, distance)).abs().max())


def large_update() -> tuple[float, float, float, float]:
    """Wall and CPU seconds, peak memory and memory before, of C = 1000, D = 512; in a process of its own."""
    torch.set_num_threads(1)
    start, target, head = problem(1000, PER_CLASS, 512)
    before = peak_memory()
    taken = once(lambda: start.update(target, torch.ones(1000, dtype=torch.bool), head, steps=STEPS, lr=LR))
    return taken.wall, taken.cpu, peak_memory(), before
