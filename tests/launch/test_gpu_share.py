"""A share of a GPU that can be no run is refused before anything starts."""

from __future__ import annotations

import pytest

from fedhpro_flwr.config import ConfigError, RunConfig
from fedhpro_flwr.launch import gpu_share
from fedhpro_flwr.launch.gpu_share import refuse_gpu


@pytest.mark.parametrize(
    ("share", "engine", "device", "sentence"),
    [
        (-0.5, "ray", "auto", "--gpus-per-client -0.5: write a share between 0 and 1"),
        (float("nan"), "ray", "auto", "--gpus-per-client nan: write a share"),
        (float("inf"), "ray", "auto", "--gpus-per-client inf: write a share"),
        (1.5, "ray", "auto", "or whole GPUs"),
        (0.5, "in-process", "auto", "is for the processes of --engine ray"),
        (0.5, "ray", "cpu", "device = 'cpu' would not use it"),
        (0.0, "ray", "cuda", "device = 'cuda': Ray gives its clients no GPU unless --gpus-per-client says which share"),
        (0.5, "ray", "auto", "torch sees no CUDA device here"),
        (0.0, "in-process", "cuda", "device = 'cuda': torch sees no CUDA device here; use 'cpu' or 'auto'"),
        (0.5, "ray", "cuda", "device = 'cuda': torch sees no CUDA device here; use 'cpu' or 'auto'"),
    ],
)
def test_refused(monkeypatch, share, engine, device, sentence):
    monkeypatch.setattr(gpu_share, "_has_gpu", lambda: False)
    with pytest.raises(ConfigError, match=sentence):
        refuse_gpu(share, engine, RunConfig.parse(device=device))


@pytest.mark.parametrize("share", [0.25, 1.0, 2.0])
def test_taken_where_there_is_a_gpu(monkeypatch, share):
    monkeypatch.setattr(gpu_share, "_has_gpu", lambda: True)
    refuse_gpu(share, "ray", RunConfig.parse(device="cuda"))
    refuse_gpu(0.0, "in-process", RunConfig.parse(device="cuda"))


def test_nothing_is_asked_of_torch_where_none_is_wanted(monkeypatch):
    monkeypatch.setattr(gpu_share, "_has_gpu", lambda: pytest.fail("asked"))
    refuse_gpu(0.0, "ray", RunConfig.parse())
    refuse_gpu(0.0, "ray", RunConfig.parse(device="cpu"))
    refuse_gpu(0.0, "in-process", RunConfig.parse())
