"""Weights & Biases, offline: a run file that `wandb sync` can upload later."""

from __future__ import annotations

import os
from collections.abc import Mapping

from fedhpro_flwr.tracking.base import TrackedRun, Tracker, tracker

OFFLINE = "offline"


@tracker("wandb")
class WeightsAndBiases(Tracker):
    """Numbers as history, settings as config; offline unless the environment's WANDB_MODE says otherwise.

    The project is the experiment, unless WANDB_PROJECT names another. The service process that the library starts
    ends with the process of the run.

    Source: https://docs.wandb.ai/ref/python/init
    """

    def __init__(self, run: TrackedRun) -> None:
        mode = os.environ.get("WANDB_MODE") or OFFLINE
        if mode == OFFLINE:  # nothing leaves the machine, not even the library's reports of its own errors
            os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        import wandb

        settings = wandb.Settings(console="off", silent=True, symlink=False, save_code=False)
        self.run = wandb.init(
            project=os.environ.get("WANDB_PROJECT") or run.experiment,
            name=run.folder.name,
            config=dict(run.settings),
            dir=str(run.folder),  # the library makes `wandb` below it
            mode=mode,  # type: ignore[arg-type]  # a wrong value in the environment is refused by the library
            reinit="create_new",  # leaves alone a run that the caller may have begun
            settings=settings,
        )

    def log(self, server_round: int, numbers: Mapping[str, float]) -> None:
        """One entry of the history, with the round as its step."""
        self.run.log(dict(numbers), step=server_round)

    def summary(self, numbers: Mapping[str, float]) -> None:
        """Entries of the run's summary."""
        self.run.summary.update(dict(numbers))

    def close(self, *, failed: bool) -> None:
        """Finish the run, with exit code 1 if it failed."""
        self.run.finish(exit_code=int(failed))
