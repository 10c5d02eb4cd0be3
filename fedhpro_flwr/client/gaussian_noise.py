"""Standard normal numbers for the noise that clients add: from the operating system's randomness, or from a seed."""

from __future__ import annotations

import os
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from fedhpro_flwr.seeding import Draws
from fedhpro_flwr.settings.sections import NoiseSource

Normals = Callable[[int], Tensor]  # how many -> [n] float64, new numbers in each call


def normals(source: NoiseSource, draws: Draws) -> Normals:
    """What a visit takes its noise from.

    Args:
        source: "secret" asks the operating system, and nobody can repeat it. "seeded" is a function of the run's seed,
            which the server and every client know: whoever knows it can subtract the noise.
        draws: those of this round and client; not used for secret noise.
    """
    return secret_normals if source == "secret" else seeded_normals(draws)


def seeded_normals(draws: Draws) -> Normals:
    """The same numbers for the same seed, round and partition."""
    generator = draws.torch("privacy-noise")
    return lambda size: torch.randn(size, generator=generator, dtype=torch.float64)


def secret_normals(size: int) -> Tensor:
    """Independent N(0, 1) numbers [n] float64 by Box and Muller's transform of bytes of `os.urandom`.

    A torch generator is no substitute: its Mersenne Twister starts from 32 bits, few enough to try every value.
    """
    pairs = -(-size // 2)
    bits = np.frombuffer(os.urandom(16 * pairs), dtype=np.uint64).reshape(2, pairs) >> np.uint64(11)
    u, v = (bits[0] + np.uint64(1)) * 2.0**-53, bits[1] * 2.0**-53  # u in (0, 1]: its logarithm is finite; v in [0, 1)
    radius, angle = np.sqrt(-2 * np.log(u)), 2 * np.pi * v
    return torch.from_numpy(np.concatenate([radius * np.cos(angle), radius * np.sin(angle)])[:size])
