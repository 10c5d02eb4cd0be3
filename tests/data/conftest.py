"""A pretrained encoder's file is large, so the tests that need one share it; its weights are random."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch


@pytest.fixture(scope="session")
def resnet18_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The state dict of torchvision's ResNet-18, with its classifier of 1,000 classes."""
    from torchvision.models import resnet18

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        state = resnet18().state_dict()
    file = tmp_path_factory.mktemp("weights") / "resnet18-0.pth"
    torch.save(state, file)
    return file
