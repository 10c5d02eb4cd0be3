"""prototypes.safetensors: a run's global prototypes round by round, to see afterwards where they went."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors.torch import save
from torch import Tensor

from fedhpro_flwr.prototypes import Prototypes
from fedhpro_flwr.records import Tensors
from fedhpro_flwr.runs.reports import RoundReport
from fedhpro_flwr.runs.run_folder import PROTOTYPES_FILE
from fedhpro_flwr.whole_file import write_whole

if TYPE_CHECKING:
    from server_app.strategy import FedHProStrategy

MOST_ROUNDS, MOST_BYTES = 100, 50_000_000  # of a trace, however long the run and however wide the features


def kept_every(num_rounds: int, round_bytes: int) -> int:
    """Every how many rounds the prototypes are kept.

    Args:
        num_rounds: R, rounds of the run.
        round_bytes: size of the prototypes of one round.

    Returns:
        The least power of two with which no more are kept than a trace holds: 100, or fewer if those would take over
        50 MB. With powers of two, all that a longer run keeps was kept by the shorter one as well.
    """
    most = max(1, min(MOST_ROUNDS, MOST_BYTES // max(round_bytes, 1)))
    every = 1
    while -(-num_rounds // every) > most:  # counts the multiples of `every`, and the last round if it is none of them
        every *= 2
    return every


class PrototypeTrace:
    """Keeps the prototypes that a round ended with. An observer of the strategy; it keeps nothing if there are none.

    The last round is always kept, and before it those whose number `kept_every` divides.

    Args:
        server: the strategy that is observed.
        num_rounds: R of the run.
        before: `tensors` of the rounds that the run goes on after. If the run was made longer, those rounds are dropped
            that it would not have kept if it had been that long from the beginning.
    """

    def __init__(self, server: FedHProStrategy, num_rounds: int, before: Tensors) -> None:
        self._server, self._num_rounds = server, num_rounds
        self._rounds: list[int] = []
        self._vectors: list[Tensor] = []  # [C, D] each
        self._known: list[Tensor] = []  # [C] each
        if before:
            rounds = before["rounds"].tolist()
            for number, vectors, known in zip(rounds, before["prototypes"], before["known"], strict=True):
                self._keep(number, Prototypes(vectors, known))

    def on_round(self, report: RoundReport) -> None:
        """Copy the prototypes, in a round that is kept."""
        method = self._server.method
        prototypes = method.prototypes(method.broadcast(self._server.state))
        if prototypes is not None:
            self._keep(report.server_round, prototypes)

    def tensors(self) -> dict[str, Tensor]:
        """`prototypes` [R, C, D] float32, `known` [R, C] bool, `rounds` [R] int64; empty if there were none."""
        if not self._rounds:
            return {}
        return {
            "prototypes": torch.stack(self._vectors),
            "known": torch.stack(self._known),
            "rounds": torch.tensor(self._rounds, dtype=torch.int64),
        }

    def write(self, folder: Path) -> None:
        """Into the run's folder; no file for a method without prototypes."""
        if tensors := self.tensors():
            write_whole(folder / PROTOTYPES_FILE, save(tensors))

    def _keep(self, server_round: int, prototypes: Prototypes) -> None:
        size = prototypes.vectors.numel() * 4 + prototypes.known.numel()
        if server_round == self._num_rounds or server_round % kept_every(self._num_rounds, size) == 0:
            self._rounds.append(server_round)
            self._vectors.append(prototypes.vectors.detach().to("cpu", torch.float32, copy=True))
            self._known.append(prototypes.known.detach().to("cpu", torch.bool, copy=True))
