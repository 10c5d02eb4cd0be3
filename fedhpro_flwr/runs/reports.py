"""What is reported of a round and of a whole run: plain numbers, one JSON line each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

from fedhpro_flwr.accuracies import OF_A_TEST, Breakdown, ClientsTested, ServerTested, client_numbers
from fedhpro_flwr.records import TRAIN_LOSS, Update
from fedhpro_flwr.timing import CLIENT_PHASES, PHASE, WAITING, Stopwatch

LAST_ROUNDS = 10  # "mean of the last ten", as the reference's log is read


@dataclass(frozen=True)
class RoundReport:
    """One line of metrics.jsonl."""

    server_round: int
    seconds: float  # wall clock of the whole round
    server_seconds: Mapping[str, float]  # by phase, as the stopwatch was told; in WAITING it waits for the clients
    client_seconds: Mapping[str, float]  # phases of timing.CLIENT_PHASES, summed over the clients
    bytes_down: Mapping[str, int]  # per record, summed over the clients
    bytes_up: Mapping[str, int]
    clients: Sequence[Mapping[str, float]]  # one entry a client: its own numbers, nothing averaged away
    set_aside: Sequence[str] = ()  # replies that did not count, each with its reason
    began_anew: Sequence[int] = ()  # clients that did not find what they had kept
    train_loss: float | None = None  # mean over the clients, weighted by samples; None with `privacy.withhold`
    received: ClientsTested | None = None  # the models this round began with, on the clients' own test data
    tested: ServerTested | None = None  # the model this round ended with, on the server's test data
    method: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        server_round: int,
        *,
        watch: Stopwatch,
        bytes_down: Mapping[str, int],
        bytes_up: Mapping[str, int],
        updates: Sequence[Update],
        set_aside: Sequence[str],
        breakdown: Breakdown,
        tested: ServerTested | None,
        method: Mapping[str, float],
    ) -> RoundReport:
        """From a round's replies: each client's numbers as they came, and what they add up to."""
        clients = [
            {
                **{name: value for name, value in update.metrics.items() if not name.startswith(OF_A_TEST)},
                "partition-id": update.partition_id,
                "num-examples": update.num_examples,
                **(client_numbers(update.test) if update.test else {}),
            }
            for update in updates
        ]
        # Only known phases of those that clients send: their names go to tables and pictures.
        phases = [phase for phase in CLIENT_PHASES if any(f"{PHASE}{phase}" in client for client in clients)]
        return cls(
            server_round=server_round,
            seconds=watch.elapsed,
            server_seconds=dict(watch.seconds),
            client_seconds={phase: sum(client.get(f"{PHASE}{phase}", 0.0) for client in clients) for phase in phases},
            bytes_down=dict(bytes_down),
            bytes_up=dict(bytes_up),
            clients=clients,
            set_aside=set_aside,
            began_anew=[update.partition_id for update in updates if update.began_anew],
            train_loss=mean_loss(updates),
            received=ClientsTested.of([update.test for update in updates if update.test], breakdown),
            tested=tested,
            method=method,
        )

    def line(self) -> dict[str, Any]:
        """As JSON-ready data."""
        return asdict(self)


class Observer(Protocol):
    """An object that is told of the rounds: the run folder, a progress table, a tracker."""

    def on_round(self, report: RoundReport) -> None:
        """Called after every round."""


def mean_loss(updates: Sequence[Update]) -> float | None:
    """Training loss of the clients' last epochs, weighted by their samples; None if no client tells it."""
    told = [(update.metrics[TRAIN_LOSS], update.num_examples) for update in updates if TRAIN_LOSS in update.metrics]
    if not told:
        return None
    return sum(loss * samples for loss, samples in told) / max(sum(samples for _, samples in told), 1)


def headline(accuracies: Sequence[tuple[int, float]]) -> dict[str, float | int | None]:
    """Best, last and mean-of-last-ten accuracy, reported apart because they differ and papers mix them.

    Args:
        accuracies: (round, accuracy) of every evaluated round, in order.
    """
    if not accuracies:
        return {"best": None, "best-round": None, "last": None, "mean-of-last-ten": None}
    best_round, best = max(accuracies, key=lambda pair: (pair[1], -pair[0]))
    tail = [accuracy for _, accuracy in accuracies[-LAST_ROUNDS:]]
    return {
        "best": best,
        "best-round": best_round,
        "last": accuracies[-1][1],
        "mean-of-last-ten": sum(tail) / len(tail),
    }


def means(rounds: Sequence[Mapping[str, Any]], key: str) -> dict[str, float]:
    """Mean over the rounds of each entry under `key`: seconds of a phase, bytes of a record.

    The server's waiting is left out: it is no work of its own.
    """
    names = dict.fromkeys(name for line in rounds for name in line[key])
    if key == "server_seconds":
        names.pop(WAITING, None)
    return {name: sum(line[key].get(name, 0.0) for line in rounds) / len(rounds) for name in names}
