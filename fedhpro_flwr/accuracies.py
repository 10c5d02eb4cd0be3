"""Test results broken down for reports: by class, group of classes, domain, client and architecture.

Everything is read off confusion tensors (metrics.py): the server's of the global model, or the clients' own.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from fedhpro_flwr.metrics import Evaluation
from fedhpro_flwr.records import OwnTest


@dataclass(frozen=True)
class Breakdown:
    """What accuracies are broken down by; whatever is empty is left out."""

    class_groups: Sequence[Sequence[int]] = ()  # head, medium and tail classes
    domain_names: Sequence[str] = ()
    architectures: Sequence[str] = ()  # of each client [N]

    @property
    def num_domains(self) -> int:
        """G, 1 if there are no domains."""
        return max(len(self.domain_names), 1)

    def domains(self, evaluation: Evaluation) -> dict[str, float | None]:
        """Accuracy by domain, if there are domains."""
        values = evaluation.domain_accuracy()
        return {name: values[domain] if domain < len(values) else None for domain, name in enumerate(self.domain_names)}

    def by_architecture(self, architectures: Sequence[str]) -> Breakdown:
        """The same, and by the architecture of each client [N] if there are several."""
        return replace(self, architectures=architectures) if len(set(architectures)) > 1 else self


NO_BREAKDOWN = Breakdown()


@dataclass(frozen=True)
class ByClassAndDomain:
    """What one confusion tensor says beside the total accuracy."""

    class_accuracy: Sequence[float | None] = ()  # [C]
    head: float | None = None  # over the third of the classes with most training samples
    medium: float | None = None
    tail: float | None = None
    domain_accuracy: Mapping[str, float | None] = field(default_factory=dict)
    mean_over_domains: float | None = None  # each domain counted once, as papers on domain skew report
    worst_domain: str = ""


def by_class_and_domain(evaluation: Evaluation, breakdown: Breakdown) -> dict[str, Any]:
    """The fields of `ByClassAndDomain`."""
    groups = breakdown.class_groups
    head, medium, tail = evaluation.group_accuracy(groups) if groups else (None, None, None)
    domains = breakdown.domains(evaluation)
    measured = {name: value for name, value in domains.items() if value is not None}
    return {
        "class_accuracy": evaluation.class_accuracy(),
        "head": head,
        "medium": medium,
        "tail": tail,
        "domain_accuracy": domains,
        "mean_over_domains": statistics.fmean(measured.values()) if measured else None,
        "worst_domain": min(measured, key=lambda name: measured[name]) if measured else "",
    }


@dataclass(frozen=True, kw_only=True)
class ServerTested(ByClassAndDomain):
    """The global model on the server's test data."""

    accuracy: float
    loss: float | None  # None if it overflows
    by_prototype: float | None = None  # the score when the nearest prototypes decide instead of the head
    by_architecture: Mapping[str, float] = field(default_factory=dict)  # if encoders are averaged in groups

    @classmethod
    def of(
        cls,
        by_head: Mapping[str, Evaluation],
        by_prototype: Mapping[str, Evaluation] | None = None,
        breakdown: Breakdown = NO_BREAKDOWN,
    ) -> ServerTested:
        """From the results of each architecture's global model (one, named "", if all clients share one)."""
        total = Evaluation.together(by_head.values())
        nearest = cls.of(by_prototype, None, breakdown) if by_prototype else None
        return cls(
            accuracy=total.accuracy,
            loss=total.loss if math.isfinite(total.loss) else None,
            by_prototype=nearest.score if nearest else None,
            by_architecture={name: result.accuracy for name, result in by_head.items() if name},
            **by_class_and_domain(total, breakdown),
        )

    @property
    def score(self) -> float:
        """What a run is judged by: the mean over domains if there are any, else the accuracy."""
        return self.accuracy if self.mean_over_domains is None else self.mean_over_domains


@dataclass(frozen=True, kw_only=True)
class ClientsTested(ByClassAndDomain):
    """Models on the clients' own test data. Classes and domains pool the samples of all clients."""

    clients: int  # how many have test data
    accuracy: float  # mean over these clients, each counted once
    deviation: float  # standard deviation over these clients (of a population)
    worst: float
    worst_client: int
    by_prototype: float | None = None  # mean over clients, when the nearest prototypes decide
    by_architecture: Mapping[str, float] = field(default_factory=dict)  # mean over the clients of each architecture

    @classmethod
    def of(cls, tests: Sequence[OwnTest], breakdown: Breakdown = NO_BREAKDOWN) -> ClientsTested | None:
        """From the clients' replies; None if nobody has test data."""
        own = {test.partition_id: test.by_head.accuracy for test in tests if test.by_head.examples}
        if not own:
            return None
        by_prototype = [test.by_prototype.accuracy for test in tests if test.by_prototype and test.by_head.examples]
        worst_client = min(own, key=lambda client: (own[client], client))
        architectures: dict[str, list[float]] = {}
        for client, accuracy in own.items():
            if breakdown.architectures:
                architectures.setdefault(breakdown.architectures[client], []).append(accuracy)
        return cls(
            clients=len(own),
            accuracy=statistics.fmean(own.values()),
            deviation=statistics.pstdev(own.values()),
            worst=own[worst_client],
            worst_client=worst_client,
            by_prototype=statistics.fmean(by_prototype) if by_prototype else None,
            by_architecture={name: statistics.fmean(values) for name, values in architectures.items()},
            **by_class_and_domain(Evaluation.together(test.by_head for test in tests), breakdown),
        )


OF_A_TEST = "test-"  # prefix of the names in `client_numbers`, so that a client's own metrics do not pass for them


def client_numbers(test: OwnTest) -> dict[str, float]:
    """A client's own line: correct, examples and, where measured, loss and correct by prototype."""
    numbers: dict[str, float] = {"test-correct": test.by_head.correct, "test-examples": test.by_head.examples}
    if test.by_head.examples:  # a client without test samples has no loss, rather than one of 0
        numbers["test-loss"] = test.by_head.loss
    return numbers | ({"test-correct-by-prototype": test.by_prototype.correct} if test.by_prototype else {})


def worse_than_alone(clients: Sequence[Mapping[str, Any]], alone: Sequence[Mapping[str, Any]]) -> float | None:
    """Share of clients whose accuracy is below that of training alone; None if no client is in both.

    Args:
        clients, alone: lines of `client_numbers` with their "partition-id", of this run and of a local-only run.
    """
    before = {client["partition-id"]: client["test-correct"] / client["test-examples"] for client in _tested(alone)}
    both = [
        client["test-correct"] / client["test-examples"] < before[client["partition-id"]]
        for client in _tested(clients)
        if client["partition-id"] in before
    ]
    return sum(both) / len(both) if both else None


def _tested(clients: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    return [client for client in clients if client.get("test-examples")]
