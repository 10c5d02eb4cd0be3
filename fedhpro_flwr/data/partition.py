"""Which client holds which samples: first the long tail, then a scheme of label skew on what is kept.

Schemes:

iid        shuffled, near-equal parts
dirichlet  class shares of the clients drawn from Dirichlet(alpha)
nid1       the reference's balanced Dirichlet with equal client sizes
shards     a fixed number of classes for each client
quantity   client sizes drawn from Dirichlet(alpha), classes not skewed
domains    every client owns samples of one domain
nodes      nothing is divided: every client has data of its own (fedhpro_flwr/client/node_data.py)
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from fedhpro_flwr.data.data_set import IndexArray
from fedhpro_flwr.data.dirichlet import dirichlet
from fedhpro_flwr.data.domains import DomainClasses, clients_of_domains, domains
from fedhpro_flwr.data.long_tail import long_tail
from fedhpro_flwr.data.nid1 import nid1
from fedhpro_flwr.data.shards import shards
from fedhpro_flwr.settings.named_counts import named_counts
from fedhpro_flwr.settings.section import ClientCount, Count, CountOrZero, Positive, Section

Scheme = Literal["iid", "dirichlet", "nid1", "shards", "quantity", "domains", "nodes"]


class PartitionPlan(Section):
    """The settings `partition.*`: how the training samples are divided among clients.

    Args:
        scheme: see above.
        num_partitions: number of clients.
        alpha: Dirichlet concentration (dirichlet, nid1, quantity).
        classes_per_client: classes of one client (shards).
        imbalance: rho, largest over smallest class after the long tail; 1 keeps every sample.
        min_samples: the fewest samples a client may have.
        domain_clients: `name=count, ...`, the clients of each domain (domains); empty deals them evenly.
        domain_share: of its domain's samples that a client gets (domains); 0 divides the domain evenly.
        samples_per_client: how many samples a client gets, whatever the share (domains); 0 leaves it to the share.
        domain_classes: "every" makes sure that each class of its domain appears at each client (domains).
    """

    scheme: Scheme = "dirichlet"
    num_partitions: ClientCount = 10
    alpha: Positive = 0.5
    classes_per_client: Count = 2
    imbalance: Annotated[float, Field(ge=1, allow_inf_nan=False)] = 1.0
    min_samples: Count = 2
    domain_clients: str = ""
    domain_share: Annotated[float, Field(ge=0, le=1)] = 0.0
    samples_per_client: CountOrZero = 0
    domain_classes: DomainClasses = "any"

    @property
    def at_nodes(self) -> bool:
        """Whether every client has data of its own, so that nothing is divided."""
        return self.scheme == "nodes"


@dataclass(frozen=True, eq=False)
class Partition:
    """Sample ids of every client, disjoint."""

    indices: tuple[IndexArray, ...]

    def __len__(self) -> int:
        return len(self.indices)

    @cached_property  # every message compares it
    def fingerprint(self) -> str:
        """16 hex digits that tell two partitions apart: who has which samples, in which order."""
        digest = hashlib.sha256()
        for ids in self.indices:
            # Without the length, a moved boundary would not show.
            digest.update(len(ids).to_bytes(8, "little"))
            digest.update(ids.astype("<i8").tobytes())
        return digest.hexdigest()[:16]

    def domains(self, domain_ids: IndexArray | None) -> tuple[int | None, ...]:
        """The one domain of each client's samples; None for a client with several, or if there are no domains."""
        if domain_ids is None:
            return (None,) * len(self)
        held = [np.unique(domain_ids[ids]) for ids in self.indices]
        return tuple(int(ids[0]) if len(ids) == 1 else None for ids in held)

    def class_counts(self, labels: IndexArray, num_classes: int) -> IndexArray:
        """Samples of every class at every client, [N, C]."""
        counts = [np.bincount(labels[ids], minlength=num_classes) for ids in self.indices]
        return np.stack(counts).astype(np.int64)


def partition(
    labels: npt.ArrayLike,
    num_classes: int,
    plan: PartitionPlan,
    seed: int = 0,
    *,
    domain_ids: IndexArray | None = None,
    domain_names: Sequence[str] = (),
) -> Partition:
    """Divide samples among clients by `plan`; the same labels, plan and seed give the same partition.

    Args:
        labels: class ids [N] in 0..C-1.
        num_classes: C.
        plan: the scheme and its numbers.
        seed: of every draw, 0 .. 2**32 - 1.
        domain_ids: of every sample [N], if the data has domains.
        domain_names: of the domains.

    Returns:
        Ids into `labels`, one array a client. Every kept sample belongs to exactly one client (with `shards`,
        to none if clients * classes_per_client is smaller than the number of classes; with `domains`, to none if
        the clients' shares leave some).

    Raises:
        ValueError: bad labels, more clients than samples, classes_per_client above C, fewer than ten clients
            with nid1, domains that do not fit, or a client left with fewer than min_samples.
    """
    targets = _checked(labels, num_classes)
    if plan.scheme == "shards" and plan.classes_per_client > num_classes:
        raise ValueError(
            f"partition.classes-per-client = {plan.classes_per_client}, but there are {num_classes} classes"
        )
    kept = long_tail(targets, num_classes, plan.imbalance, seed)
    clients = plan.num_partitions
    if clients > len(kept):
        raise ValueError(f"partition.num-partitions = {clients}, but there are only {len(kept)} training samples")
    match plan.scheme:
        case "nodes":
            raise ValueError("partition.scheme = 'nodes': every client has data of its own, there is none to divide")
        case "iid":
            parts = np.array_split(np.random.default_rng(seed).permutation(kept), clients)
        case "dirichlet":
            parts = dirichlet(targets, kept, num_classes, clients, plan.alpha, plan.min_samples, seed)
        case "nid1":
            parts = nid1(targets, kept, num_classes, clients, plan.alpha, seed)
        case "shards":
            parts = shards(targets, kept, num_classes, clients, plan.classes_per_client, seed)
        case "quantity":
            # All samples are as of one class (Li et al., Federated Learning on Non-IID Data Silos, ICDE 2022).
            parts = dirichlet(np.zeros_like(targets), kept, 1, clients, plan.alpha, plan.min_samples, seed)
        case "domains":
            wanted = named_counts(plan.domain_clients, "partition.domain-clients")
            owners = clients_of_domains(domain_names, wanted, clients)
            assert domain_ids is not None  # named domains have ids: the data set's own check
            parts = domains(
                targets, domain_ids, kept, owners, domain_names, share=plan.domain_share,
                samples=plan.samples_per_client, classes=plan.domain_classes, seed=seed,
            )  # fmt: skip
    smallest = min(range(clients), key=lambda client: len(parts[client]))
    if len(parts[smallest]) < plan.min_samples:
        raise ValueError(
            f"partition.scheme = {plan.scheme!r}: client {smallest} gets {len(parts[smallest])} samples, "
            f"but partition.min-samples = {plan.min_samples}; use fewer clients or a smaller minimum"
        )
    return Partition(tuple(parts))


def split_test(test_labels: npt.ArrayLike, train_counts: IndexArray, seed: int) -> tuple[IndexArray, ...]:
    """Give every client test samples of its own, distributed like its training samples.

    The test samples of a class are shuffled and divided in proportion to the clients' training counts of that
    class; what rounding leaves over goes to the largest remainders, ties drawn at random. A class that no
    client trains on is given to nobody.

    Args:
        test_labels: class ids [n].
        train_counts: samples of every class at every client, [N, C].
        seed: of the shuffles.

    Returns:
        Ascending ids into `test_labels`, one array a client, disjoint.

    Raises:
        ValueError: bad labels.
    """
    num_clients, num_classes = train_counts.shape
    targets = _checked(test_labels, num_classes)
    rng = np.random.default_rng(seed)
    pieces: list[list[IndexArray]] = [[] for _ in range(num_clients)]
    for c in range(num_classes):
        members = rng.permutation(np.flatnonzero(targets == c).astype(np.int64))
        ties = rng.permutation(num_clients)
        trained = int(train_counts[:, c].sum())
        if trained == 0:
            continue
        # Whole numbers throughout: quota = count * n / total = share + remainder / total, exactly.
        share, remainder = np.divmod(train_counts[:, c] * len(members), trained)
        left = len(members) - int(share.sum())
        share[np.lexsort((ties, -remainder))[:left]] += 1
        for client, piece in enumerate(np.split(members, np.cumsum(share)[:-1])):
            pieces[client].append(piece)
    empty = np.empty(0, dtype=np.int64)
    return tuple(np.sort(np.concatenate([empty, *piece])) for piece in pieces)


def _checked(labels: npt.ArrayLike, num_classes: int) -> IndexArray:
    array = np.asarray(labels)
    if array.ndim != 1 or not np.issubdtype(array.dtype, np.integer):
        raise ValueError(f"labels must be whole numbers [N], got {array.dtype} {list(array.shape)}")
    if num_classes < 1:
        raise ValueError(f"num_classes = {num_classes}: it must be 1 or larger")
    if len(array) and (array.min() < 0 or array.max() >= num_classes):
        raise ValueError(f"labels must lie in 0..{num_classes - 1}, found {array.min()}..{array.max()}")
    return array.astype(np.int64)
