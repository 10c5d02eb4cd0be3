"""What a round costs: CPU seconds and FLOPs of each phase, by name, and their sums over clients."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from measure import best_of, once
from torch.utils.flop_counter import FlopCounterMode

CLASS_GRADIENT, LINEAR, MARGIN = "class gradients", "of it without the encoder", "margin and anchors"
LOSSES, LOCAL = "HPCL and HPAL", "local training on the cross-entropy"
CHECK, MODELS, CLASS_MEANS = "unpack and check a reply", "mean of the models", "mean of the class gradients"
MATCHING, CALIBRATION, CONTROL = "matching", "calibration", "control variates"


@dataclass(frozen=True)
class Cost:
    """CPU seconds of one thread, and floating point operations."""

    seconds: float
    flops: float

    def scaled(self, factor: float) -> Cost:
        """So many times of it."""
        return Cost(self.seconds * factor, self.flops * factor)

    def plus(self, other: Cost) -> Cost:
        """One after the other."""
        return Cost(self.seconds + other.seconds, self.flops + other.flops)


@dataclass(frozen=True)
class RoundCosts:
    """A method's round at C classes: of one client, of the server for each reply, of the server once."""

    client: Mapping[str, Cost]
    each_reply: Mapping[str, Cost]
    once: Mapping[str, Cost]
    down: Mapping[str, int]  # bytes by record, to one client
    up: Mapping[str, int]

    def visit(self) -> Cost:
        """All of a client's work; `LINEAR` is a part of another phase."""
        return total({phase: cost for phase, cost in self.client.items() if phase != LINEAR})

    def server(self, clients: int) -> Cost:
        """All of the server's work in a round of so many clients."""
        return total(self.each_reply).scaled(clients).plus(total(self.once))


def total(costs: Mapping[str, Cost]) -> Cost:
    """One after the other."""
    return Cost(sum(cost.seconds for cost in costs.values()), sum(cost.flops for cost in costs.values()))


def measured(work: Callable[[], object], *, repeats: int = 3, flops: float | None = None) -> Cost:
    """The best CPU time of several calls; FLOPs of matrix products and convolutions as torch counts them, or as given.

    They are counted in a first call that is not timed: the counter slows what it counts.
    """
    if flops is None:
        flops = counted(work)
    elif repeats > 1:
        work()
    return Cost(best_of([once(work) for _ in range(repeats)]).cpu, flops)


def counted(work: Callable[[], object]) -> float:
    """FLOPs of the matrix products and convolutions of a call."""
    with FlopCounterMode(display=False) as counter:
        work()
    return float(counter.get_total_flops())
