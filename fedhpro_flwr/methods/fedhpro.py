"""FedHPro: federated learning with hyper-prototypes matched by class gradients (ICML 2026, arXiv 2605.13475).

The client measures its class gradients g_k^c [P.1] and its margin d_k [P.3] at the model it received, then trains with
CE + HPCL [P.3] + HPAL [P.4]. The server moves the hyper-prototypes S so that their gradients point where the clients'
do [P.2].
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import cast

import torch
from torch import Tensor
from torch.nn import functional as F

from fedhpro_flwr.chosen_aggregation import average_classes
from fedhpro_flwr.class_imbalance import imbalance, updated_counts
from fedhpro_flwr.class_means import count_classes
from fedhpro_flwr.config import ConfigError, RunConfig
from fedhpro_flwr.head import Head, head_of
from fedhpro_flwr.hyper_prototypes import HyperPrototypes
from fedhpro_flwr.logit_adjustment import logit_offsets
from fedhpro_flwr.losses import Anchors
from fedhpro_flwr.methods.arrival import Arrival, LocalLoss
from fedhpro_flwr.methods.base import Method, ServerStep, method
from fedhpro_flwr.methods.class_samples import refuse_augmented
from fedhpro_flwr.methods.class_uploads import measured_classes
from fedhpro_flwr.methods.fedhpro_state import CALIBRATES, FedHProState
from fedhpro_flwr.methods.head_calibration import (
    Calibrated,
    head_gradient_records,
    head_gradient_shapes,
    received_head,
    refuse_calibration,
    sent_head,
)
from fedhpro_flwr.methods.hpcl_hpal import hpcl_and_hpal, margin_of, refuse_margins
from fedhpro_flwr.methods.scaffold import refuse_uncontrolled
from fedhpro_flwr.metrics import Scores
from fedhpro_flwr.prototypes import Prototypes
from fedhpro_flwr.records import (
    CLASS_COUNTS,
    CLASS_GRADIENTS,
    CLASS_IDS,
    HYPER_PROTOTYPES,
    Shape,
    Tensors,
    Update,
    class_rows,
)
from fedhpro_flwr.seeding import Draws
from fedhpro_flwr.timing import Stopwatch


@method("fedhpro")
class FedHPro(Method):
    """L = CE + w_1 HPCL + w_2 HPAL at the client; min_S sum_c [1 - cos(g^c, g_HP^c(S))] on the server."""

    @classmethod
    def refuse(cls, config: RunConfig) -> None:
        """As every method, losses or a calibration that do not agree, and what control variates do not fit."""
        super().refuse(config)
        refuse_margins(config.losses)
        refuse_calibration(config)
        if config.losses.correction == "control-variates":
            refuse_uncontrolled(config, "losses.correction = 'control-variates'", "set losses.correction = 'none'")

    @classmethod
    def sends_of_classes(cls, config: RunConfig) -> bool:
        """Class gradients for the matching, head gradients for the calibration; where there is neither, nothing."""
        return config.hyper_prototypes.matching_steps > 0 or config.calibration.head != "off"

    @property
    def server_rates(self) -> tuple[str, ...]:
        """Of the matching and of the calibration, as far as there are any."""
        calibrates = self.config.calibration.head != "off"
        of_calibration = ("calibration.matching-lr", "calibration.lr") if calibrates else ()
        return (*(("hyper-prototypes.matching-lr",) if self._matches else ()), *of_calibration)

    def refuse_data(self, *, images: bool) -> None:
        """As every method; and DSA augments images."""
        super().refuse_data(images=images)
        refuse_augmented(self.config.class_gradients, images=images)

    # --- at the client ------------------------------------------------------------------------------------------------

    def upload(self, arrival: Arrival) -> dict[str, Tensor]:
        """Class gradients at the received model [P.1] [R.grads]; class counts alone where no gradients are used."""
        wanted = self._wanted(arrival.received.tensors)
        if not self._matches and not wanted:
            counts = count_classes(arrival.train.labels, arrival.model.num_classes)
            ids = counts.nonzero().squeeze(1)
            return {CLASS_IDS: ids, CLASS_COUNTS: counts[ids]}
        gradients = measured_classes(arrival, self.config.class_gradients, head_gradients=wanted)
        sent = {CLASS_IDS: gradients.class_ids, CLASS_COUNTS: gradients.counts, **head_gradient_records(gradients)}
        return sent | ({CLASS_GRADIENTS: gradients.by_features} if self._matches else {})

    def local_loss(self, arrival: Arrival) -> LocalLoss | None:
        """HPCL with the client's own margin, and HPAL [P.3] [P.4], the hyper-prototypes held constant."""
        anchors = Anchors.of(arrival.received.tensors[HYPER_PROTOTYPES].to(arrival.data.device))
        return hpcl_and_hpal(self.config, anchors, margin_of(self.config, arrival), self.logit_offsets(arrival))

    def logit_offsets(self, arrival: Arrival) -> Tensor | None:
        """Of the client's class shares, where `losses.logit-adjustment` asks for it."""
        return logit_offsets(arrival.train.labels, arrival.model.num_classes, self.config.losses.logit_adjustment)

    # --- on the server ------------------------------------------------------------------------------------------------

    def start(self, model: Tensors) -> object:
        """S drawn from its start distribution; prototypes and first head of the calibration where it is on.

        Raises:
            ConfigError: `hyper-prototypes.counts` names a class that is not there, the start does not fit, or the head
                has no bias.
        """
        hyper, calibration, draws = self.config.hyper_prototypes, self.config.calibration, Draws(self.config.seed)
        classes, width = head_of(model).weight.shape
        try:
            hyper_prototypes = HyperPrototypes.start(
                classes,
                hyper.prototypes_per_class,
                width,
                init=hyper.init,
                counts=hyper.counts_by_class,
                generator=draws.torch("hyper-prototypes"),
            )
        except ValueError as error:
            keys = f"hyper-prototypes.init = {hyper.init!r}, hyper-prototypes.counts = {hyper.counts!r}"
            raise ConfigError(f"{keys}: {error}") from error
        if calibration.head == "off":
            return FedHProState(hyper_prototypes)
        # Whether the classes are imbalanced is not known before the clients have told their counts.
        return FedHProState(
            hyper_prototypes,
            Calibrated.start(calibration, classes, width, draws),
            wants_head_gradients=not self._by_imbalance,
            class_counts=torch.zeros(self.config.partition.num_partitions, classes) if self._by_imbalance else None,
        )

    def broadcast(self, state: object) -> dict[str, Tensor]:
        """S, and the head of the class gradients where it is not the model's own."""
        state = cast(FedHProState, state)
        sent = {HYPER_PROTOTYPES: state.hyper_prototypes.vectors, **sent_head(state.signal_head)}
        if self._by_imbalance:
            sent[CALIBRATES] = torch.tensor([int(state.wants_head_gradients)])
        return sent

    def expects(self, state: object) -> dict[str, Shape]:
        """The records of `upload`, P classes each."""
        state = cast(FedHProState, state)
        classes, _, width = state.hyper_prototypes.vectors.shape
        records: dict[str, Shape] = {CLASS_IDS: ("P",), CLASS_COUNTS: ("P",)}
        records |= {CLASS_GRADIENTS: ("P", width)} if self._matches else {}
        return records | (head_gradient_shapes(classes, width) if state.wants_head_gradients else {})

    def server_step(
        self, state: object, sent: Tensors, model: Tensors, updates: Sequence[Update], draws: Draws, watch: Stopwatch
    ) -> ServerStep:
        """Calibrate the head where asked [R.c3] [R.c4], then move S by gradient matching [P.2] [R.c5]."""
        state, options, rules = cast(FedHProState, state), self.config.hyper_prototypes, self.config.aggregation
        client_head = new_head = state.signal_head or head_of(sent)
        calibrated = state.calibrated
        if calibrated is not None and state.wants_head_gradients:
            with watch("calibration"):
                calibrated = calibrated.next(self.config.calibration, client_head, updates, draws, rules)
            new_head = calibrated.head or client_head
            if self.config.calibration.head == "replace":
                model = {**model, "head.weight": new_head.weight, "head.bias": new_head.bias}
                calibrated = replace(calibrated, head=None)  # it is the model's own now
        hyper_prototypes, metrics = state.hyper_prototypes, {}
        if self._matches:
            with watch("matching"):
                weighting = self.config.class_gradients.weighting
                rows = class_rows(updates, CLASS_GRADIENTS)
                target, class_mask = average_classes(rules, *rows, client_head.num_classes, weighting=weighting)
                hyper_prototypes = hyper_prototypes.update(
                    target,  # g [C, D]
                    class_mask,  # [C]: classes that nobody sent stay as they are
                    client_head if options.matching_head == "client" else new_head,
                    steps=options.matching_steps,
                    lr=options.matching_lr,
                    distance=options.matching_distance,
                    virtual_scale=options.virtual_scale,
                )
            metrics = {
                "hyper-prototype-movement": hyper_prototypes.relative_movement(state.hyper_prototypes),
                "classes-matched": int(class_mask.sum()),
            }
        counts, wanted = state.class_counts, state.wants_head_gradients
        if counts is not None:
            counts = updated_counts(counts, updates)
            wanted = imbalance(counts) >= self.config.calibration.from_imbalance
            if calibrated is not None and not wanted:
                calibrated = replace(calibrated, head=None)  # no longer re-trained, it would fall behind the encoder
        return ServerStep(model, FedHProState(hyper_prototypes, calibrated, wanted, counts), metrics)

    def prototypes(self, sent: Tensors) -> Prototypes:
        """H, the mean of the K hyper-prototypes of each class."""
        means = HyperPrototypes(sent[HYPER_PROTOTYPES]).class_means()
        return Prototypes(means, torch.ones(len(means), dtype=torch.bool))

    def prototype_scores(self, sent: Tensors) -> Scores:
        """Mean cosine similarity with the K hyper-prototypes of each class, as in HPCL [P.3]."""
        anchors = Anchors.of(sent[HYPER_PROTOTYPES])
        return lambda z: F.normalize(z, dim=1) @ anchors.directions.T.to(z)  # [B, D] -> [B, C]

    def tested_head(self, sent: Tensors) -> Head | None:
        """The calibrated head where it is kept apart from the model's own."""
        return received_head(sent) if self.config.calibration.head == "separate" else None

    def tensors(self, state: object) -> dict[str, Tensor]:
        """S under its wire name, and the calibration's prototypes and head."""
        return cast(FedHProState, state).results()

    def saved(self, state: object) -> dict[str, Tensor]:
        """All of it."""
        return cast(FedHProState, state).saved()

    def restored(self, start: object, saved: Tensors) -> object:
        """The inverse of `saved`."""
        return FedHProState.restored(saved)

    @property
    def _matches(self) -> bool:
        """Hyper-prototypes that are frozen at their start need no class gradients."""
        return self.config.hyper_prototypes.matching_steps > 0

    @property
    def _by_imbalance(self) -> bool:
        return self.config.calibration.head != "off" and self.config.calibration.from_imbalance > 0

    def _wanted(self, sent: Tensors) -> bool:
        """Whether the server wants head gradients of this client."""
        return bool(sent[CALIBRATES]) if self._by_imbalance else self.config.calibration.head != "off"
