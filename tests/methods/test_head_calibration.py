"""The calibration on the server: which settings reach the matching, and the head's training by autograd."""

import pytest
import torch
from torch.nn import functional as F

from fedhpro_flwr.calibration import fresh_head, match_prototypes
from fedhpro_flwr.config import RunConfig
from fedhpro_flwr.head import Head
from fedhpro_flwr.methods.head_calibration import Calibrated
from fedhpro_flwr.records import Update
from fedhpro_flwr.seeding import Draws

CLASSES, WIDTH, PER_CLASS = 4, 3, 2
SETTINGS = {
    "calibration.head": "separate",
    "calibration.prototypes-per-class": PER_CLASS,
    "calibration.matching-steps": 3,
    "calibration.matching-lr": 0.2,
    "calibration.matching-distance": "mse",
    "calibration.epochs": 3,
    "calibration.batch-size": 5,
    "calibration.lr": 0.3,
    "aggregation.class-gradients": "median",
}


def drawn(seed, *shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def update(client):
    """Of classes 0, 1 and 3."""
    ids = torch.tensor([0, 1, 3])
    sent = {"head-weight-gradients": drawn(client, 3, CLASSES, WIDTH), "head-bias-gradients": drawn(9, 3, CLASSES)}
    sent["head-bias-gradients"] *= client
    return Update(client, 9, {}, {"class-ids": ids, "class-counts": torch.full((3,), 3)} | sent)


def test_a_step_of_the_server_with_every_setting_its_own():
    config, used = RunConfig.parse(SETTINGS), Head(drawn(7, CLASSES, WIDTH), drawn(8, CLASSES))
    start = Calibrated.start(config.calibration, CLASSES, WIDTH, Draws(0))
    updates = [update(client) for client in (1, 2, 5)]
    after = start.next(config.calibration, used, updates, Draws(0, 1), config.aggregation)

    median = [torch.zeros(CLASSES, CLASSES, WIDTH), torch.zeros(CLASSES, CLASSES)]
    for gradients, name in zip(median, ("head-weight-gradients", "head-bias-gradients"), strict=True):
        gradients[[0, 1, 3]] = torch.stack([each.tensors[name] for each in updates]).median(dim=0).values
    held = torch.tensor([True, True, False, True])
    wanted = match_prototypes(start.prototypes, used, *median, held, steps=3, lr=0.2, distance="mse")
    assert torch.equal(after.prototypes, wanted) and not torch.equal(wanted, start.prototypes)

    leaves = [tensor.requires_grad_() for tensor in fresh_head(CLASSES, WIDTH, Draws(0, 1).torch("calibration-head"))]
    x, labels = wanted.reshape(-1, WIDTH), torch.arange(CLASSES).repeat_interleave(PER_CLASS)
    generator = Draws(0, 1).torch("calibration-order")
    for _ in range(3):
        order = torch.randperm(CLASSES * PER_CLASS, generator=generator)
        for chosen in (order[:5], order[5:]):
            gradients = torch.autograd.grad(F.cross_entropy(F.linear(x[chosen], *leaves), labels[chosen]), leaves)
            with torch.no_grad():
                for leaf, gradient in zip(leaves, gradients, strict=True):
                    leaf -= 0.3 * gradient
    for tensor, leaf in zip(after.head, leaves, strict=True):
        torch.testing.assert_close(tensor, leaf.detach(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("first", ["fresh", "model"])
def test_the_first_head_is_fresh_or_the_models_own(first):
    config = RunConfig.parse(SETTINGS | {"calibration.first-head": first})
    head = Calibrated.start(config.calibration, CLASSES, WIDTH, Draws(3)).head
    if first == "model":
        assert head is None
        return
    wanted = fresh_head(CLASSES, WIDTH, Draws(3).torch("first-head"))
    assert all(torch.equal(*pair) for pair in zip(head, wanted, strict=True))
