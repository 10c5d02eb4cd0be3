"""The server's re-training of the head on prototypes matched to the clients' head gradients [R.c3] [R.c4].

This is all of CReFF (creff.py), and what FedHPro's `reference` preset does beside the hyper-prototypes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fedhpro_flwr.calibration import fresh_head, match_prototypes, retrain_head
from fedhpro_flwr.chosen_aggregation import average_classes
from fedhpro_flwr.config import ConfigError, RunConfig
from fedhpro_flwr.gradient_matching import ClassGradients
from fedhpro_flwr.head import Head
from fedhpro_flwr.records import HEAD_BIAS_GRADIENTS, HEAD_WEIGHT_GRADIENTS, Shape, Tensors, Update, class_rows
from fedhpro_flwr.seeding import Draws
from fedhpro_flwr.settings.fedhpro_sections import CalibrationOptions
from fedhpro_flwr.settings.sections import AggregationOptions

SIGNAL_HEAD_WEIGHT, SIGNAL_HEAD_BIAS = "signal-head-weight", "signal-head-bias"  # see `sent_head`


def refuse_calibration(config: RunConfig) -> None:
    """Check that the settings of FedHPro's calibration agree with the others.

    Raises:
        ConfigError: a head that nobody would test, a calibration that waits for class counts it cannot have or use, or
            a matching under a calibrated head, although none is made.
    """
    options = config.calibration
    if options.head == "off":
        if config.hyper_prototypes.matching_head == "calibrated":
            raise ConfigError(
                "hyper-prototypes.matching-head = 'calibrated' needs calibration.head = 'replace' or 'separate'"
            )
        return
    if options.head == "separate" and config.model.share == "head":
        raise ConfigError(
            "calibration.head = 'separate' keeps a head for the server's test, and with model.share = 'head' "
            "there is no global model to test; use 'replace' or 'off'"
        )
    if options.from_imbalance > 0 and options.first_head == "fresh":
        raise ConfigError(
            f"calibration.from-imbalance = {options.from_imbalance} waits for the clients' class counts, "
            "until then the head must be the model's own: calibration.first-head = 'model'"
        )
    if options.from_imbalance > 0 and config.privacy.withhold:
        raise ConfigError(
            f"privacy.withhold = true: calibration.from-imbalance = {options.from_imbalance} waits for "
            "class counts that are withheld; set it to 0"
        )


@dataclass(frozen=True, eq=False)
class Calibrated:
    """What the calibration remembers from round to round."""

    prototypes: Tensor  # F [C, M, D]
    head: Head | None = None  # the last one that was trained; None if it is the model's own

    @classmethod
    def start(cls, options: CalibrationOptions, num_classes: int, width: int, draws: Draws) -> Calibrated:
        """F ~ N(0, 1), and a fresh head for round 1 if `calibration.first-head` asks for it."""
        generator = draws.torch("calibration-prototypes")
        prototypes = torch.randn(num_classes, options.prototypes_per_class, width, generator=generator)
        fresh = options.first_head == "fresh"
        return cls(prototypes, fresh_head(num_classes, width, draws.torch("first-head")) if fresh else None)

    def next(
        self,
        options: CalibrationOptions,
        used: Head,
        updates: Sequence[Update],
        draws: Draws,
        aggregation: AggregationOptions,
    ) -> Calibrated:
        """F matched to the clients' mean head gradients [R.c3], and a new head trained on F [R.c4].

        Args:
            options: `calibration.*`.
            used: the head that the clients took their gradients under.
            updates: their replies, with the gradients by the head, in partition order.
            draws: the server's random draws of this round.
            aggregation: `aggregation.*`, how the gradients are averaged.
        """
        classes = used.num_classes
        weights, biases = (class_rows(updates, name) for name in (HEAD_WEIGHT_GRADIENTS, HEAD_BIAS_GRADIENTS))
        weight_gradients, class_mask = average_classes(aggregation, *weights, classes)
        bias_gradients, _ = average_classes(aggregation, *biases, classes)
        prototypes = match_prototypes(
            self.prototypes, used, weight_gradients, bias_gradients, class_mask,
            steps=options.matching_steps, lr=options.matching_lr, distance=options.matching_distance,
        )  # fmt: skip
        start = fresh_head(classes, used.width, draws.torch("calibration-head"))
        generator = draws.torch("calibration-order")
        orders = (torch.randperm(prototypes[..., 0].numel(), generator=generator) for _ in range(options.epochs))
        head = retrain_head(prototypes, start, orders, batch_size=options.batch_size, lr=options.lr)
        return Calibrated(prototypes, head)


def sent_head(head: Head | None) -> dict[str, Tensor]:
    """The records of a head that clients take gradients under; none if it is the model's own."""
    return {} if head is None else {SIGNAL_HEAD_WEIGHT: head.weight, SIGNAL_HEAD_BIAS: head.bias}


def received_head(received: Tensors) -> Head | None:
    """The inverse of `sent_head`."""
    return Head(received[SIGNAL_HEAD_WEIGHT], received[SIGNAL_HEAD_BIAS]) if SIGNAL_HEAD_WEIGHT in received else None


def head_gradient_records(gradients: ClassGradients) -> dict[str, Tensor]:
    """The records of a client's head gradients, P classes each; none where they were not taken."""
    if gradients.by_head_weight is None or gradients.by_head_bias is None:
        return {}
    return {HEAD_WEIGHT_GRADIENTS: gradients.by_head_weight, HEAD_BIAS_GRADIENTS: gradients.by_head_bias}


def head_gradient_shapes(num_classes: int, width: int) -> dict[str, Shape]:
    """The shapes of these records."""
    return {HEAD_WEIGHT_GRADIENTS: ("P", num_classes, width), HEAD_BIAS_GRADIENTS: ("P", num_classes)}
