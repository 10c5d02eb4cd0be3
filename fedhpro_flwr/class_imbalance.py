"""How unequal in size the classes of all clients together are, by the class counts that clients have sent so far."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from fedhpro_flwr.records import CLASS_COUNTS, CLASS_IDS, Update


def updated_counts(counts: Tensor, updates: Sequence[Update]) -> Tensor:
    """The samples of each client and class [N, C], brought up to date by a round's replies.

    Args:
        counts: before the round, zero for a client that has not replied yet.
        updates: the replies, with their client's number and its samples of each class.
    """
    counts = counts.clone()
    for update in updates:
        counts[update.partition_id, update.tensors[CLASS_IDS]] = update.tensors[CLASS_COUNTS].to(counts)
    return counts


def imbalance(counts: Tensor) -> float:
    """Samples of the largest class over those of the smallest that anybody holds: counts [N, C]; 1 before any."""
    total = counts.sum(dim=0)
    total = total[total > 0]
    return float(total.max() / total.min()) if len(total) else 1.0
