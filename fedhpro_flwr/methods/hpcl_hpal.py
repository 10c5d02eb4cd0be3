"""A FedHPro client's loss beside the cross-entropy: w_1 HPCL [P.3] + w_2 HPAL [P.4], the anchors held constant."""

from __future__ import annotations

from torch import Tensor

from fedhpro_flwr.config import ConfigError, RunConfig
from fedhpro_flwr.losses import Anchors, client_margin, hpal, hpcl, pair_margins
from fedhpro_flwr.methods.arrival import Arrival, Batch, LocalLoss
from fedhpro_flwr.settings.fedhpro_sections import LossOptions


def refuse_margins(options: LossOptions) -> None:
    """Check that the settings of the margin agree.

    Raises:
        ConfigError: a schedule of a margin that is not used, or margins of pairs that do not fit its form or HPCL's.
    """
    if options.margin_schedule != "constant" and (options.margin == "none" or options.hpcl == "off"):
        raise ConfigError(
            f"losses.margin-schedule = {options.margin_schedule!r} needs a margin: losses.margin is "
            f"{options.margin!r} and losses.hpcl is {options.hpcl!r}"
        )
    if options.margin_pairs != "same" and (options.margin not in ("l2", "l2-unit") or options.hpcl != "paper"):
        raise ConfigError(
            f"losses.margin-pairs = {options.margin_pairs!r} needs losses.margin = 'l2' or 'l2-unit' "
            "and losses.hpcl = 'paper'"
        )


def hpcl_and_hpal(
    config: RunConfig, anchors: Anchors, margin: float | Tensor, offsets: Tensor | None = None
) -> LocalLoss | None:
    """The two losses on anchors of C classes, weighted as the settings say; None if both are off.

    Args:
        config: `losses.*`.
        anchors: of every class that a batch can hold.
        margin: d_k, or one for each pair of classes [C, C].
        offsets: added to HPCL's logits [C].
    """
    options = config.losses
    if options.hpcl == "off" and options.hpal == "off":
        return None

    def loss(batch: Batch) -> Tensor:
        z, labels = batch.z, batch.labels  # [B, D], [B]
        total = z.new_zeros(())
        if options.hpcl != "off":
            total = options.hpcl_weight * hpcl(
                z,
                labels,
                anchors,
                temperature=options.temperature,
                margin=margin,
                form=options.hpcl,
                offsets=offsets,
            )
        if options.hpal != "off":
            total = total + options.hpal_weight * hpal(z, labels, anchors, form=options.hpal)
        return total

    return loss


def margin_of(config: RunConfig, arrival: Arrival) -> float | Tensor:
    """The client's margin d_k, or one per pair of classes, computed once a visit in eval mode (D7 in DEVIATIONS.md)."""
    options, task = config.losses, arrival.received.task
    if options.hpcl == "off" or options.margin == "none":
        return 0.0
    share = 1.0 if options.margin_schedule == "constant" else min(1.0, task.server_round / config.rounds)
    z, labels, classes = arrival.features, arrival.train.labels, arrival.model.num_classes
    if options.margin_pairs != "same":
        return share * pair_margins(z, labels, classes, options.margin, options.margin_pairs)
    return share * float(client_margin(z, labels, classes, options.margin))
