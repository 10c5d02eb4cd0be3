"""What FedHPro's server remembers from round to round, as tensors to be saved and made again."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fedhpro_flwr.head import Head
from fedhpro_flwr.hyper_prototypes import HyperPrototypes
from fedhpro_flwr.methods.head_calibration import Calibrated, received_head, sent_head
from fedhpro_flwr.records import CLASS_COUNTS, HYPER_PROTOTYPES, Tensors

CALIBRATES = "calibrates"  # [1] int64: whether head gradients are wanted in this round
CALIBRATION_PROTOTYPES = "calibration-prototypes"  # F [C, M, D]


@dataclass(frozen=True, eq=False)
class FedHProState:
    """After a round, or before the first."""

    hyper_prototypes: HyperPrototypes  # S [C, K, D]
    calibrated: Calibrated | None = None  # None where there is no calibration
    wants_head_gradients: bool = False  # in the next round
    class_counts: Tensor | None = None  # [N, C] samples of the clients heard so far, where the calibration waits for it

    @property
    def signal_head(self) -> Head | None:
        """The head that clients take class gradients under, where it is not the model's own."""
        return self.calibrated.head if self.calibrated else None

    def results(self) -> dict[str, Tensor]:
        """S under its wire name, and the calibration's prototypes and head."""
        named = {HYPER_PROTOTYPES: self.hyper_prototypes.vectors}
        if self.calibrated is not None:
            named |= {CALIBRATION_PROTOTYPES: self.calibrated.prototypes, **sent_head(self.calibrated.head)}
        return named

    def saved(self) -> dict[str, Tensor]:
        """The same, what the next round is asked for, and the class counts heard so far."""
        named = self.results() | {CALIBRATES: torch.tensor([int(self.wants_head_gradients)])}
        return named | ({} if self.class_counts is None else {CLASS_COUNTS: self.class_counts})

    @classmethod
    def restored(cls, saved: Tensors) -> FedHProState:
        """The inverse of `saved`."""
        prototypes = saved.get(CALIBRATION_PROTOTYPES)
        return cls(
            HyperPrototypes(saved[HYPER_PROTOTYPES]),
            None if prototypes is None else Calibrated(prototypes, received_head(saved)),
            wants_head_gradients=bool(saved[CALIBRATES]),
            class_counts=saved.get(CLASS_COUNTS),
        )
