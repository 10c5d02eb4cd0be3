"""FedHPro: federated learning with hyper-prototypes matched by class gradients (ICML 2026, arXiv 2605.13475).

The client measures its class gradients g_k^c [P.1] and its margin d_k [P.3] at the model it received, then trains with
CE + HPCL [P.3] + HPAL [P.4]. The server moves the hyper-prototypes S so that their gradients point where the clients'
do [P.2].
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor
from torch.nn import functional as F

from fedhpro_flwr.aggregation import class_mean
from fedhpro_flwr.calibration import fresh_head, match_prototypes, retrain_head
from fedhpro_flwr.class_samples import draw_class_samples
from fedhpro_flwr.config import ConfigError
from fedhpro_flwr.gradient_matching import ClassGradients, class_gradients, count_classes
from fedhpro_flwr.head import Head
from fedhpro_flwr.hyper_prototypes import HyperPrototypes
from fedhpro_flwr.losses import Anchors, client_margin, hpal, hpcl, pair_margins
from fedhpro_flwr.methods.base import Arrival, LocalLoss, Method, ServerStep, encode, method
from fedhpro_flwr.metrics import Scores
from fedhpro_flwr.records import CLASS_COUNTS, CLASS_GRADIENTS, CLASS_IDS, HYPER_PROTOTYPES, Shape, Tensors, Update
from fedhpro_flwr.seeding import Draws
from fedhpro_flwr.timing import Stopwatch

SIGNAL_HEAD_WEIGHT, SIGNAL_HEAD_BIAS = "signal-head-weight", "signal-head-bias"
HEAD_WEIGHT_GRADIENTS, HEAD_BIAS_GRADIENTS = "head-weight-gradients", "head-bias-gradients"


@dataclass(frozen=True, eq=False)
class FedHProState:
    """What the server remembers from round to round."""

    hyper_prototypes: HyperPrototypes  # S [C, K, D]
    calibration_prototypes: Tensor | None = None  # F [C, M, D]
    signal_head: Head | None = None  # the head of the class gradients where it is not the model's own


def head_of(model: Tensors) -> Head:
    """The linear head (W [C, D], b [C]) among a model's tensors."""
    return Head(model["head.weight"], model["head.bias"])


@method("fedhpro")
class FedHPro(Method):
    """L = CE + w_1 HPCL + w_2 HPAL at the client; min_S sum_c [1 - cos(g^c, g_HP^c(S))] on the server."""

    # --- at the client ------------------------------------------------------------------------------------------------

    def upload(self, arrival: Arrival) -> dict[str, Tensor]:
        """Class gradients of the client at the model it received [P.1] [R.grads]."""
        options = self.config.class_gradients
        sent = arrival.received.tensors
        head = head_of(arrival.received.model)
        if SIGNAL_HEAD_WEIGHT in sent:
            head = Head(sent[SIGNAL_HEAD_WEIGHT], sent[SIGNAL_HEAD_BIAS])
        labels = arrival.train.labels
        counts = count_classes(labels, head.num_classes)
        if options.samples_per_class == 0 and options.augment == "none":
            z, z_labels, drawn = arrival.features, labels, counts  # z: [N, D]
        else:
            chosen = draw_class_samples(arrival.data, head.num_classes, options, arrival.draws)
            z, z_labels, drawn = encode(arrival.model, chosen.inputs, lambda x: x), chosen.labels, chosen.per_repeat
        gradients = class_gradients(
            z,
            z_labels,
            head.like(z),
            counts=counts,
            scale=options.scale,
            batch_counts=drawn,
            head_gradients=self._calibrates,
        )
        upload = {CLASS_GRADIENTS: gradients.features, CLASS_IDS: gradients.class_ids, CLASS_COUNTS: gradients.counts}
        if gradients.head_weight is not None and gradients.head_bias is not None:
            upload |= {HEAD_WEIGHT_GRADIENTS: gradients.head_weight, HEAD_BIAS_GRADIENTS: gradients.head_bias}
        return upload

    def local_loss(self, arrival: Arrival) -> LocalLoss | None:
        """HPCL with the client's own margin, and HPAL [P.3] [P.4], the hyper-prototypes held constant."""
        options = self.config.losses
        if options.hpcl == "off" and options.hpal == "off":
            return None
        anchors = Anchors.of(arrival.received.tensors[HYPER_PROTOTYPES].to(arrival.data.device))
        margin = self._margin(arrival)

        def loss(z: Tensor, labels: Tensor) -> Tensor:  # z: [B, D], labels: [B]
            total = z.new_zeros(())
            if options.hpcl != "off":
                total = options.hpcl_weight * hpcl(
                    z, labels, anchors, temperature=options.temperature, margin=margin, form=options.hpcl
                )
            if options.hpal != "off":
                total = total + options.hpal_weight * hpal(z, labels, anchors, form=options.hpal)
            return total

        return loss

    def _margin(self, arrival: Arrival) -> float | Tensor:
        """The client's margin d_k, or one for each pair of classes, once a visit in eval mode (D7 in DEVIATIONS.md)."""
        options, task = self.config.losses, arrival.received.task
        if options.hpcl == "off" or options.margin == "none":
            return 0.0
        share = 1.0 if options.margin_schedule == "constant" else min(1.0, task.server_round / self.config.rounds)
        z, labels, classes = arrival.features, arrival.train.labels, arrival.model.num_classes
        if options.margin_pairs != "same":
            return share * pair_margins(z, labels, classes, options.margin, options.margin_pairs)
        return share * float(client_margin(z, labels, classes, options.margin))

    # --- on the server ------------------------------------------------------------------------------------------------

    def start(self, model: Tensors) -> FedHProState:
        """S drawn from its start distribution; prototypes and first head of the calibration where it is on.

        Raises:
            ConfigError: `hyper-prototypes.counts` names a class that is not there, or the start does not fit.
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
        prototypes = torch.randn(
            classes, calibration.prototypes_per_class, width, generator=draws.torch("calibration-prototypes")
        )
        return FedHProState(
            hyper_prototypes,
            prototypes if self._calibrates else None,
            fresh_head(classes, width, draws.torch("first-head")) if calibration.first_head == "fresh" else None,
        )

    def broadcast(self, state: object) -> dict[str, Tensor]:
        """S, and the head of the class gradients where it is not the model's own."""
        state = cast(FedHProState, state)
        sent = {HYPER_PROTOTYPES: state.hyper_prototypes.vectors}
        if state.signal_head is not None:
            sent |= {SIGNAL_HEAD_WEIGHT: state.signal_head.weight, SIGNAL_HEAD_BIAS: state.signal_head.bias}
        return sent

    def expects(self, model: Tensors) -> dict[str, Shape]:
        """The records of `upload`, P classes each."""
        classes, width = head_of(model).weight.shape
        records: dict[str, Shape] = {CLASS_GRADIENTS: ("P", width), CLASS_IDS: ("P",), CLASS_COUNTS: ("P",)}
        if self._calibrates:
            records |= {HEAD_WEIGHT_GRADIENTS: ("P", classes, width), HEAD_BIAS_GRADIENTS: ("P", classes)}
        return records

    def server_step(
        self, state: object, sent: Tensors, model: Tensors, updates: Sequence[Update], draws: Draws, watch: Stopwatch
    ) -> ServerStep:
        """Calibrate the head where asked [R.c3] [R.c4], then move S by gradient matching [P.2] [R.c5]."""
        state, options = cast(FedHProState, state), self.config.hyper_prototypes
        gradients = [_gradients(update) for update in updates]
        client_head = state.signal_head or head_of(sent)
        new_head, prototypes = client_head, state.calibration_prototypes
        if prototypes is not None:
            with watch("calibration"):
                prototypes, new_head = self._calibrate(prototypes, client_head, gradients, draws)
        with watch("matching"):
            target, class_mask = class_mean(
                gradients, client_head.num_classes, weighting=self.config.class_gradients.weighting
            )
            hyper_prototypes = state.hyper_prototypes.update(
                target,  # g [C, D]
                class_mask,  # [C]: classes that nobody sent stay as they are
                client_head if options.matching_head == "client" else new_head,
                steps=options.matching_steps,
                lr=options.matching_lr,
                distance=options.matching_distance,
                virtual_scale=options.virtual_scale,
            )
        replace = self.config.calibration.head == "replace"
        if replace:
            model = {**model, "head.weight": new_head.weight, "head.bias": new_head.bias}
        return ServerStep(
            model,
            FedHProState(
                hyper_prototypes, prototypes, new_head if self.config.calibration.head == "separate" else None
            ),
            {
                "hyper-prototype-movement": hyper_prototypes.relative_movement(state.hyper_prototypes),
                "classes-matched": int(class_mask.sum()),
            },
        )

    def prototype_scores(self, sent: Tensors) -> Scores:
        """Mean cosine similarity with the K hyper-prototypes of each class, as in HPCL [P.3]."""
        anchors = Anchors.of(sent[HYPER_PROTOTYPES])
        return lambda z: F.normalize(z, dim=1) @ anchors.directions.T.to(z)  # [B, D] -> [B, C]

    def evaluation_scores(self, state: object) -> Scores | None:
        """The calibrated head where it is kept apart from the model's own."""
        head = cast(FedHProState, state).signal_head
        return head.logits if head and self.config.calibration.head == "separate" else None

    def tensors(self, state: object) -> dict[str, Tensor]:
        """S under its wire name, and the calibration's prototypes."""
        state = cast(FedHProState, state)
        saved = self.broadcast(state)
        return (
            saved
            if state.calibration_prototypes is None
            else saved | {"calibration-prototypes": state.calibration_prototypes}
        )

    @property
    def _calibrates(self) -> bool:
        return self.config.calibration.head != "off"

    def _calibrate(
        self, prototypes: Tensor, head: Head, gradients: Sequence[ClassGradients], draws: Draws
    ) -> tuple[Tensor, Head]:
        """F matched to the clients' head gradients under the head they used, then a new head trained on F."""
        options, classes = self.config.calibration, head.num_classes
        weight_gradients, class_mask = class_mean(gradients, classes, field="head_weight")
        bias_gradients, _ = class_mean(gradients, classes, field="head_bias")
        prototypes = match_prototypes(
            prototypes, head, weight_gradients, bias_gradients, class_mask,
            steps=options.matching_steps, lr=options.matching_lr, distance=options.matching_distance,
        )  # fmt: skip
        start = fresh_head(classes, head.width, draws.torch("calibration-head"))
        return prototypes, retrain_head(
            prototypes, start,
            epochs=options.epochs, batch_size=options.batch_size, lr=options.lr,
            generator=draws.torch("calibration-order"),
        )  # fmt: skip


def _gradients(update: Update) -> ClassGradients:
    sent = update.tensors
    return ClassGradients(
        sent[CLASS_IDS],
        sent[CLASS_GRADIENTS],
        sent[CLASS_COUNTS],
        sent.get(HEAD_WEIGHT_GRADIENTS),
        sent.get(HEAD_BIAS_GRADIENTS),
    )
