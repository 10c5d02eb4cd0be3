"""What FedHPro's server remembers from round to round, and how it is saved to tensors and restored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from fedhpro_flwr.head import Head
from fedhpro_flwr.hyper_prototypes import HyperPrototypes
from fedhpro_flwr.methods.head_calibration import Calibrated, received_head, sent_head
from fedhpro_flwr.records import CLASS_COUNTS, CLASS_IDS, HYPER_PROTOTYPES, Tensors, Update

WANTS_HEAD_GRADIENTS = "calibrates"  # [1] int64: whether a round asks for them; checkpoints have it by this name
CALIBRATION_PROTOTYPES = "calibration-prototypes"  # F [C, M, D]


@dataclass(frozen=True, eq=False)
class FedHProState:
    """The server's state after a round, or before the first."""

    hyper_prototypes: HyperPrototypes  # S [C, K, D]
    calibrated: Calibrated | None = None  # None if there is no calibration
    wants_head_gradients: bool = False  # in the next round
    class_counts: Tensor | None = None  # [N, C] of the clients heard so far, if the calibration waits for imbalance

    @property
    def gradient_head(self) -> Head | None:
        """The head that clients take class gradients under; None if it is the model's own."""
        return self.calibrated.head if self.calibrated else None

    def heard(self, updates: Sequence[Update], from_imbalance: float) -> FedHProState:
        """If the calibration waits for imbalance: update the class counts, and whether to calibrate in the next round.

        Args:
            updates: the replies of the round.
            from_imbalance: the ratio of the largest class's samples to the smallest's from which on to calibrate.
        """
        if self.class_counts is None:
            return self
        counts, calibrated = updated_counts(self.class_counts, updates), self.calibrated
        wants = imbalance(counts) >= from_imbalance
        if calibrated is not None and not wants:
            calibrated = replace(calibrated, head=None)  # no longer re-trained, it would fall behind the encoder
        return replace(self, calibrated=calibrated, wants_head_gradients=wants, class_counts=counts)

    def tensors(self) -> dict[str, Tensor]:
        """S under its wire name, and the calibration's prototypes and head."""
        named = {HYPER_PROTOTYPES: self.hyper_prototypes.vectors}
        if self.calibrated is not None:
            named |= {CALIBRATION_PROTOTYPES: self.calibrated.prototypes, **sent_head(self.calibrated.head)}
        return named

    def saved(self) -> dict[str, Tensor]:
        """`tensors`, whether the next round asks for head gradients, and the class counts heard so far."""
        named = self.tensors() | {WANTS_HEAD_GRADIENTS: torch.tensor([int(self.wants_head_gradients)])}
        return named | ({} if self.class_counts is None else {CLASS_COUNTS: self.class_counts})

    @classmethod
    def restored(cls, saved: Tensors) -> FedHProState:
        """The inverse of `saved`."""
        prototypes = saved.get(CALIBRATION_PROTOTYPES)
        return cls(
            HyperPrototypes(saved[HYPER_PROTOTYPES]),
            None if prototypes is None else Calibrated(prototypes, received_head(saved)),
            wants_head_gradients=bool(saved[WANTS_HEAD_GRADIENTS]),
            class_counts=saved.get(CLASS_COUNTS),
        )


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
