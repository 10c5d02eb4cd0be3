"""The source of every random draw: a generator made from (seed, round, partition, purpose) and nothing else.

So a draw does not depend on which process makes it, in which order clients are served, or what was drawn before.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch

SERVER = -1  # in place of a partition id


@dataclass(frozen=True)
class Draws:
    """The random draws of one round at one place."""

    seed: int
    server_round: int = 0
    partition_id: int = SERVER

    def _key(self, purpose: str) -> list[int]:
        return [self.seed, self.server_round, self.partition_id + 1, zlib.crc32(purpose.encode())]

    def torch(self, purpose: str) -> torch.Generator:
        """A CPU generator: draws are made on the CPU and moved, so that they do not depend on the device."""
        state = np.random.SeedSequence(self._key(purpose)).generate_state(1, np.uint64)
        return torch.Generator().manual_seed(int(state[0] >> np.uint64(1)))

    @contextmanager
    def torch_everywhere(self) -> Iterator[None]:
        """Seed torch's own generators, which dropout draws from, within the block; after it they are as before.

        Nothing in this package draws from them; a user's own model or method may.
        """
        on_gpu = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
        with torch.random.fork_rng(range(torch.cuda.device_count()) if on_gpu else ()):
            seed = self.torch("everywhere").initial_seed()
            torch.default_generator.manual_seed(seed)
            # torch.manual_seed would record the whole call stack for each kind of device that is not there.
            if torch.cuda.is_available():
                torch.cuda.manual_seed_all(seed)
            yield

    def numpy(self, purpose: str) -> np.random.Generator:
        """A NumPy generator."""
        return np.random.default_rng(self._key(purpose))


def sample_partitions(
    num_partitions: int,
    per_round: int,
    *,
    seed: int,
    server_round: int,
    sampling: str,
    among: Sequence[int] | None = None,
) -> list[int]:
    """The partitions that train in a round, ascending for `round`, in drawn order for `stream`.

    Args:
        num_partitions: how many there are.
        per_round: how many are drawn without replacement; 0 means all.
        seed, server_round: of the run; rounds count from 1.
        sampling: "round" draws from (seed, round), so any round can be drawn alone; "stream" is the reference's: one
            legacy generator for the whole run, of which round r takes the r-th draw.
        among: the partitions that can be drawn, ascending; all if left out. If there are too few, fewer are drawn.
    """
    count = per_round or num_partitions
    pool = list(range(num_partitions)) if among is None else list(among)
    if sampling == "stream":
        stream = np.random.RandomState(seed)
        for _ in range(server_round - 1):
            stream.choice(num_partitions, count, replace=False)
        return [int(partition) for partition in stream.choice(pool, min(count, len(pool)), replace=False)]
    rng = Draws(seed, server_round).numpy("clients")
    return sorted(pool[place] for place in rng.choice(len(pool), min(count, len(pool)), replace=False))
