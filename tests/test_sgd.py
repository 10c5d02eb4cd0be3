"""LocalSGD against torch's own optimizer, bit for bit, and by hand."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from fedhpro_flwr.sgd import LocalSGD


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("weight_decay", [0.0, 0.01])
def test_bit_equal_to_torchs_optimizer(momentum: float, weight_decay: float) -> None:
    torch.manual_seed(0)
    nets = [nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3)) for _ in range(2)]
    nets[1].load_state_dict(nets[0].state_dict())
    options = {"lr": 0.1, "momentum": momentum, "weight_decay": weight_decay}
    optimizers = [
        LocalSGD(nets[0].parameters(), **options),
        torch.optim.SGD(nets[1].parameters(), fused=True, **options),
    ]
    for _ in range(5):
        x = torch.randn(7, 5)
        for net, optimizer in zip(nets, optimizers, strict=True):
            optimizer.zero_grad()
            net(x).square().mean().backward()
            optimizer.step()
    for ours, theirs in zip(nets[0].parameters(), nets[1].parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_two_steps_by_hand() -> None:
    weight = torch.tensor([1.0], requires_grad=True)
    optimizer = LocalSGD([weight], lr=0.5, momentum=0.5, weight_decay=0.0)
    for _ in range(2):
        optimizer.zero_grad()
        (2 * weight).sum().backward()
        optimizer.step()
    # v1 = 2, w = 1 - 1 = 0; v2 = 1 + 2 = 3, w = 0 - 1.5
    assert weight.item() == -1.5


def test_a_parameter_without_a_gradient_stays() -> None:
    used, unused = torch.ones(2, requires_grad=True), torch.ones(2, requires_grad=True)
    optimizer = LocalSGD([used, unused], lr=0.1, momentum=0.9, weight_decay=0.1)
    used.sum().backward()
    optimizer.step()
    assert torch.equal(unused, torch.ones(2))
    assert torch.equal(used, torch.full((2,), 1 - 0.1 * 1.1))


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_a_parameter_may_get_its_first_gradient_later_than_others(momentum: float) -> None:
    """As of a branch of a model that the first batch did not take."""
    ours = [torch.ones(2, requires_grad=True) for _ in range(2)]
    theirs = [torch.ones(2, requires_grad=True) for _ in range(2)]
    mine = LocalSGD(ours, lr=0.1, momentum=momentum, weight_decay=0.01)
    torchs = torch.optim.SGD(theirs, lr=0.1, momentum=momentum, weight_decay=0.01)
    for step in range(4):
        for place in (0, 1):
            for parameters in (ours, theirs):
                absent = place == 1 and step == 0
                parameters[place].grad = None if absent else torch.full((2,), 0.5 + step + place)
        mine.step()
        torchs.step()
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=0.0)


def test_a_visit_does_not_import_the_compiler() -> None:
    script = """
import sys, torch
from fedhpro_flwr.sgd import LocalSGD
weight = torch.ones(2, requires_grad=True)
weight.sum().backward()
LocalSGD([weight], lr=0.1, momentum=0.9, weight_decay=0.0).step()
print("torch._dynamo" in sys.modules)
"""
    root = Path(__file__).resolve().parents[1]
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=root)
    assert done.stdout.strip() == "False", done.stderr
