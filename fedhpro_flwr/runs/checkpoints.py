"""The folder checkpoint/ of a run: written after a round, the last two kept, the newest good one found again."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fedhpro_flwr.code_fingerprint import code_fingerprint
from fedhpro_flwr.config import ConfigError
from fedhpro_flwr.runs.checkpoint import About, Checkpoint
from fedhpro_flwr.runs.prototype_trace import PrototypeTrace
from fedhpro_flwr.runs.reports import RoundReport
from fedhpro_flwr.runs.round_line import WAY_OUT
from fedhpro_flwr.runs.run_folder import CHECKPOINT_FOLDER, METRICS_FILE, read_rounds, round_file, rounds_in

if TYPE_CHECKING:
    from server_app.strategy import FedHProStrategy

KEPT_CHECKPOINTS = 2


class Checkpoints:
    """Writes a checkpoint after every `checkpoint.every`-th round and after the last one; observes the strategy.

    It must be the last observer: when a checkpoint exists, so does what the others write about its round.

    Args:
        server: the strategy that is observed.
        trace: its prototypes so far.
        folder: of the run.
    """

    def __init__(self, server: FedHProStrategy, trace: PrototypeTrace, folder: Path) -> None:
        self._server, self._trace, self._folder = server, trace, folder / CHECKPOINT_FOLDER
        for number in rounds_in(self._folder) if server.so_far.server_round else ():
            if number > server.so_far.server_round:  # it was damaged, and is void now, even if it could be read again
                round_file(self._folder, number).unlink(missing_ok=True)
                continue
            with suppress(ValueError, OSError):  # a damaged one, which no run goes on from
                server.clients.visits.saved[number] = Checkpoint.read(round_file(self._folder, number)).about.counted

    def on_round(self, report: RoundReport) -> None:
        """Write a checkpoint if it is time, and delete those older than the last two or left over from later rounds."""
        server, number = self._server, report.server_round
        every = server.config.checkpoint.every
        if every == 0 or (number % every and number != server.num_rounds):
            return
        about = About(
            server.so_far.run,
            number,
            dict(server.clients.visits.counted),
            server.clients.roster.named,
            server.clients.roster.stand_ins,
            settings=server.config.flat(),
            code=code_fingerprint(),
            data=server.data,
        )
        method = server.method.saved(server.state)
        self._folder.mkdir(parents=True, exist_ok=True)
        content = Checkpoint(about, server.model.shared, server.model.encoders, method, self._trace.tensors())
        content.write(round_file(self._folder, number))
        kept = [other for other in rounds_in(self._folder) if other <= number][-KEPT_CHECKPOINTS:]
        for other in rounds_in(self._folder):
            if other not in kept:
                round_file(self._folder, other).unlink(missing_ok=True)
        server.clients.visits.keep(kept)


@dataclass(frozen=True)
class Found:
    """What a run can go on from."""

    checkpoint: Checkpoint | None  # None if none was written yet
    passed_over: Sequence[str] = ()  # why newer ones cannot be used, a sentence each


def newest(folder: Path) -> Found:
    """The newest good checkpoint of a run's folder whose rounds are in the folder's metrics.jsonl too.

    Raises:
        PermissionError: one may not be read. It is not damaged: the user can give the permission.
        ValueError: there are some, and none is good.
    """
    passed_over: list[str] = []
    for number in reversed(rounds_in(folder / CHECKPOINT_FOLDER)):
        try:
            _refuse_lost_rounds(folder, number)
            path = round_file(folder / CHECKPOINT_FOLDER, number)
            checkpoint = Checkpoint.read(path)
            if checkpoint.about.server_round != number:  # for example a copy under another name
                raise ValueError(f"{path} is of round {checkpoint.about.server_round}")
            return Found(checkpoint, passed_over)
        except ValueError as error:
            passed_over.append(str(error))
    if passed_over:
        raise ValueError("; ".join(passed_over))
    return Found(None)


def _refuse_lost_rounds(folder: Path, server_round: int) -> None:
    """A run goes on after a round only if metrics.jsonl has that round and all before it.

    Raises:
        ValueError: a line is damaged, or the lines are not those of these rounds.
    """
    try:
        lines = [line["server_round"] for line in read_rounds(folder, server_round)]
    except ConfigError as error:
        raise ValueError(str(error).removesuffix(WAY_OUT)) from None
    if lines != list(range(1, server_round + 1)):
        raise ValueError(f"{folder / METRICS_FILE} does not hold the {server_round} rounds that were played")
