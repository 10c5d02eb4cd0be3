"""The device that a process computes on, and what the bits of its arithmetic depend on."""

from __future__ import annotations

import torch

from fedhpro_flwr.config import ConfigError, RunConfig
from fedhpro_flwr.precision import has_bfloat16, repeat_on_gpu


def device_of(config: RunConfig) -> torch.device:
    """The device a process computes on.

    Raises:
        ConfigError: `device = "cuda"` and there is none, or `local.precision` on a GPU that has no such arithmetic.
    """
    if config.device == "cuda" and not torch.cuda.is_available():
        raise ConfigError("device = 'cuda': this process sees no CUDA device; use 'cpu' or 'auto'")
    device = torch.device("cuda" if _on_gpu(config) else "cpu")
    if config.local.precision == "bfloat16" and not has_bfloat16(device):
        raise ConfigError(
            f"local.precision = 'bfloat16': {torch.cuda.get_device_name()} computes in no bfloat16; use 'float32'"
        )
    return device


def _on_gpu(config: RunConfig) -> bool:
    return config.device != "cpu" and torch.cuda.is_available()


def settle(config: RunConfig) -> None:
    """Fix what a process's results depend on: the number of threads (the order of float sums), and a GPU's kernels."""
    if torch.get_num_threads() != config.clients.threads:
        torch.set_num_threads(config.clients.threads)
    if _on_gpu(config):
        repeat_on_gpu(config.deterministic)
