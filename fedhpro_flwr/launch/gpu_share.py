"""Refuses a `--gpus-per-client`, the share of a GPU that Ray gives to each client process, with which no run can work.

Ray hides the GPUs from a process that is given no share of one, and waits without end for a share that no machine has.
"""

from __future__ import annotations

import math

from fedhpro_flwr.config import ConfigError, RunConfig

OPTION = "--gpus-per-client"


def refuse_gpu(share: float, engine: str, config: RunConfig) -> None:
    """Check the share before anything starts, and that the one process of `--engine in-process` has the GPU it needs.

    Args:
        share: of a GPU for each client process; 0 for none.
        engine: of the command line, "ray" or "in-process".
        config: the settings of the run.

    Raises:
        ConfigError: Ray cannot give such a share, it contradicts the engine or `device`, or there is no GPU.
    """
    given = f"{OPTION} {share:g}"
    if not 0 <= share < math.inf or (share > 1 and share != int(share)):
        raise ConfigError(f"{given}: write a share between 0 and 1, as 0.25 for four clients a GPU, or whole GPUs")
    if share and engine != "ray":
        raise ConfigError(f"{given} is for the processes of --engine ray; clients in one process share its GPU anyway")
    if share and config.device == "cpu":
        raise ConfigError(f"{given}: device = 'cpu' would not use it; set device = 'auto' or leave the option out")
    if not share and engine == "ray" and config.device == "cuda":
        raise ConfigError(
            f"device = 'cuda': Ray gives its clients no GPU unless {OPTION} says which share; add {OPTION} 0.25, say, "
            "or take --engine in-process"
        )
    if config.device == "cuda" and not _has_gpu():
        raise ConfigError("device = 'cuda': torch sees no CUDA device here; use 'cpu' or 'auto'")
    if share and not _has_gpu():
        raise ConfigError(f"{given}: torch sees no CUDA device here, and Ray would wait for one; leave it out")


def _has_gpu() -> bool:
    import torch  # takes seconds, and a run of Ray's needs it in its own processes only

    return torch.cuda.is_available()
