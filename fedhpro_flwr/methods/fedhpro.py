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
from fedhpro_flwr.config import ConfigError, RunConfig
from fedhpro_flwr.head import Head, head_of, with_head
from fedhpro_flwr.hyper_prototypes import HyperPrototypes
from fedhpro_flwr.logit_adjustment import logit_offsets
from fedhpro_flwr.losses import Anchors
from fedhpro_flwr.methods.arrival import Arrival, LocalLoss
from fedhpro_flwr.methods.base import Method, ServerStep, method
from fedhpro_flwr.methods.class_samples import refuse_augmented
from fedhpro_flwr.methods.class_uploads import counted_classes, measured_classes
from fedhpro_flwr.methods.fedhpro_state import WANTS_HEAD_GRADIENTS, FedHProState
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
        """Also refuse contradictory settings of the losses or calibration, and what rules out control variates."""
        super().refuse(config)
        refuse_margins(config.losses)
        refuse_calibration(config)
        if config.losses.correction == "control-variates":
            refuse_uncontrolled(config, "losses.correction = 'control-variates'", "set losses.correction = 'none'")

    @classmethod
    def sends_of_classes(cls, config: RunConfig) -> bool:
        """Whether there is matching, which needs class gradients, or calibration, which needs head gradients."""
        return config.hyper_prototypes.matching_steps > 0 or config.calibration.head != "off"

    @property
    def server_rates(self) -> tuple[str, ...]:
        """The rates of the matching and of the calibration, as far as they are on."""
        calibrates = self.config.calibration.head != "off"
        of_calibration = ("calibration.matching-lr", "calibration.lr") if calibrates else ()
        return (*(("hyper-prototypes.matching-lr",) if self._matches else ()), *of_calibration)

    def refuse_data(self, *, images: bool) -> None:
        """Also refuse the augmentation DSA unless the data is images, or clients take no class gradients."""
        super().refuse_data(images=images)
        refuse_augmented(self.config.class_gradients, images=images or not self.sends_of_classes(self.config))

    # --- at the client ------------------------------------------------------------------------------------------------

    def upload(self, arrival: Arrival) -> dict[str, Tensor]:
        """Class gradients at the received model [P.1] [R.grads], or class counts, or nothing: what the server uses."""
        head_gradients = self._wants_head_gradients(arrival.received.tensors)
        if not self.sends_of_classes(self.config):
            return {}
        if not self._matches and not head_gradients:
            return counted_classes(arrival)
        gradients = measured_classes(arrival, self.config.class_gradients, head_gradients=head_gradients)
        upload = {CLASS_IDS: gradients.class_ids, CLASS_COUNTS: gradients.counts, **head_gradient_records(gradients)}
        return upload | ({CLASS_GRADIENTS: gradients.by_features} if self._matches else {})

    def local_loss(self, arrival: Arrival) -> LocalLoss | None:
        """HPCL with the client's own margin, and HPAL [P.3] [P.4], the hyper-prototypes held constant."""
        anchors = Anchors.of(arrival.received.tensors[HYPER_PROTOTYPES].to(arrival.data.device))
        return hpcl_and_hpal(self.config, anchors, margin_of(self.config, arrival), self.logit_offsets(arrival))

    def logit_offsets(self, arrival: Arrival) -> Tensor | None:
        """Offsets from the client's class shares, if `losses.logit-adjustment` asks for them."""
        return logit_offsets(arrival.train.labels, arrival.model.num_classes, self.config.losses.logit_adjustment)

    # --- on the server ------------------------------------------------------------------------------------------------

    def start(self, model: Tensors) -> object:
        """Draw S from its start distribution, and, if the calibration is on, its prototypes and its first head.

        Raises:
            ConfigError: `hyper-prototypes.counts` names a class that does not exist, `hyper-prototypes.init` does not
                suit C and D, or the head has no bias.
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
            counts = f", hyper-prototypes.counts = {hyper.counts!r}" if hyper.counts else ""
            raise ConfigError(f"hyper-prototypes.init = {hyper.init!r}{counts}: {error}") from error
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
        """S; the head to take class gradients under, if not the model's own; if that varies, whether to calibrate."""
        state = cast(FedHProState, state)
        tensors = {HYPER_PROTOTYPES: state.hyper_prototypes.vectors, **sent_head(state.gradient_head)}
        if self._by_imbalance:
            tensors[WANTS_HEAD_GRADIENTS] = torch.tensor([int(state.wants_head_gradients)])
        return tensors

    def expects(self, state: object) -> dict[str, Shape]:
        """The records of `upload`, P classes each."""
        state = cast(FedHProState, state)
        if not self.sends_of_classes(self.config):
            return {}
        classes, _, width = state.hyper_prototypes.vectors.shape
        records: dict[str, Shape] = {CLASS_IDS: ("P",), CLASS_COUNTS: ("P",)}
        records |= {CLASS_GRADIENTS: ("P", width)} if self._matches else {}
        return records | (head_gradient_shapes(classes, width) if state.wants_head_gradients else {})

    def server_step(
        self, state: object, sent: Tensors, model: Tensors, updates: Sequence[Update], draws: Draws, watch: Stopwatch
    ) -> ServerStep:
        """Calibrate the head if that is on [R.c3] [R.c4], then move S by gradient matching [P.2] [R.c5]."""
        before = cast(FedHProState, state)
        used = before.gradient_head or head_of(sent)  # the head that the clients took their gradients under
        model, calibrated, new_head = self._calibrate(model, before, used, updates, draws, watch)  # [R.c3] [R.c4]
        hyper_prototypes, metrics = self._match(before, used, new_head, updates, watch)  # [P.2] [R.c5]
        after = replace(before, hyper_prototypes=hyper_prototypes, calibrated=calibrated)
        return ServerStep(model, after.heard(updates, self.config.calibration.from_imbalance), metrics)

    def prototypes(self, received: Tensors) -> Prototypes:
        """H, the mean of the K hyper-prototypes of each class."""
        means = HyperPrototypes(received[HYPER_PROTOTYPES]).means()
        return Prototypes(means, torch.ones(len(means), dtype=torch.bool))

    def prototype_scores(self, received: Tensors) -> Scores:
        """Mean cosine similarity with the K hyper-prototypes of each class, as in HPCL [P.3]."""
        anchors = Anchors.of(received[HYPER_PROTOTYPES])
        return lambda z: F.normalize(z, dim=1) @ anchors.directions.T.to(z)  # [B, D] -> [B, C]

    def tested_head(self, received: Tensors) -> Head | None:
        """The calibrated head if it is kept apart from the model's own."""
        return received_head(received) if self.config.calibration.head == "separate" else None

    def tensors(self, state: object) -> dict[str, Tensor]:
        """S under its wire name, and the calibration's prototypes and head."""
        return cast(FedHProState, state).tensors()

    def saved(self, state: object) -> dict[str, Tensor]:
        """All of the state."""
        return cast(FedHProState, state).saved()

    def restored(self, start: object, saved: Tensors) -> object:
        """The inverse of `saved`."""
        return FedHProState.restored(saved)

    def _calibrate(
        self, model: Tensors, state: FedHProState, used: Head, updates: Sequence[Update], draws: Draws, watch: Stopwatch
    ) -> tuple[Tensors, Calibrated | None, Head]:
        """Calibrate [R.c3] [R.c4]; with `calibration.head = "replace"` the new head goes into the model.

        Returns:
            The model, what the calibration remembers, and the new head, or the one in use if none was trained.
        """
        if state.calibrated is None or not state.wants_head_gradients:
            return model, state.calibrated, used
        with watch("calibration"):
            options, rules = self.config.calibration, self.config.aggregation
            calibrated = state.calibrated.next(options, used, updates, draws, rules)
        new_head = calibrated.head or used
        if options.head == "replace":  # it is the model's own now
            return with_head(model, new_head), replace(calibrated, head=None), new_head
        return model, calibrated, new_head

    def _match(
        self, state: FedHProState, used: Head, new_head: Head, updates: Sequence[Update], watch: Stopwatch
    ) -> tuple[HyperPrototypes, dict[str, float]]:
        """S moved by M steps towards the mean of the clients' class gradients [P.2] [R.c5], and the round's numbers."""
        options, before = self.config.hyper_prototypes, state.hyper_prototypes
        if not self._matches:
            return before, {}
        with watch("matching"):
            target, class_mask = average_classes(
                self.config.aggregation,
                *class_rows(updates, CLASS_GRADIENTS),
                used.num_classes,
                weighting=self.config.class_gradients.weighting,
            )
            after = before.update(
                target,  # g [C, D]
                class_mask,  # [C]: classes that nobody sent stay as they are
                used if options.matching_head == "client" else new_head,
                steps=options.matching_steps,
                lr=options.matching_lr,
                distance=options.matching_distance,
                virtual_scale=options.virtual_scale,
            )
        moved = after.relative_movement(before)
        return after, {"hyper-prototype-movement": moved, "classes-matched": int(class_mask.sum())}

    @property
    def _matches(self) -> bool:
        """Whether S moves; frozen at its start, it needs no class gradients."""
        return self.config.hyper_prototypes.matching_steps > 0

    @property
    def _by_imbalance(self) -> bool:
        return self.config.calibration.head != "off" and self.config.calibration.from_imbalance > 0

    def _wants_head_gradients(self, received: Tensors) -> bool:
        """Whether the server wants head gradients of this client."""
        return bool(received[WANTS_HEAD_GRADIENTS]) if self._by_imbalance else self.config.calibration.head != "off"
