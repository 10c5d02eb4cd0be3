"""TensorBoard: event files, written by PyTorch's own writer."""

from __future__ import annotations

from collections.abc import Mapping

from fedhpro_flwr.tracking.base import TrackedRun, Tracker, tracker
from fedhpro_flwr.tracking.named_numbers import SUMMARY


@tracker("tensorboard")
class TensorBoard(Tracker):
    """Numbers as scalars, settings and the summary as a session of the HParams tab.

    Source: https://docs.pytorch.org/docs/stable/tensorboard.html
    """

    def __init__(self, run: TrackedRun) -> None:
        from torch.utils.tensorboard import SummaryWriter
        from torch.utils.tensorboard.summary import hparams

        # An earlier attempt's points of rounds that are played again stay in its file, but are not shown.
        first = run.rounds_before + 1 if run.rounds_before else 0
        self.writer = SummaryWriter(str(run.folder / self.name), purge_step=first)
        metrics = {f"summary/{name}": 0.0 for name in SUMMARY}  # only names: `summary` writes the values as scalars
        *began, self.ended = hparams(dict(run.settings), metrics)  # type: ignore[no-untyped-call]
        for part in began:
            self._add(part)
        self.writer.flush()

    def log(self, server_round: int, numbers: Mapping[str, float]) -> None:
        """Each number is a scalar, and the round is its step."""
        for name, value in numbers.items():
            self.writer.add_scalar(name, value, server_round)
        self.writer.flush()

    def summary(self, numbers: Mapping[str, float]) -> None:
        """Scalars at step 0, which the HParams tab shows beside the settings."""
        self.log(0, numbers)

    def close(self, *, failed: bool) -> None:
        """End the session, but leave it without an end if the run failed."""
        if not failed:
            self._add(self.ended)
        self.writer.close()

    def _add(self, part: object) -> None:
        self.writer.file_writer.add_summary(part)  # type: ignore[attr-defined]  # PyTorch declares it as None
