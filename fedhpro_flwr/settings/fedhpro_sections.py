"""FedHPro's own sections of the settings. Their defaults are those of the preset (presets.py)."""

from __future__ import annotations

from typing import Literal

from fedhpro_flwr.aggregation import ClassWeighting
from fedhpro_flwr.gradient_matching import GradientScale, MatchingDistance
from fedhpro_flwr.head_matching import HeadDistance
from fedhpro_flwr.hyper_prototypes import Start, VirtualScale
from fedhpro_flwr.losses import MarginPairs, MarginReading
from fedhpro_flwr.settings.flat_keys import ConfigError
from fedhpro_flwr.settings.named_counts import named_counts
from fedhpro_flwr.settings.section import (
    MOST_PER_CLASS,
    Count,
    CountOrZero,
    NotNegative,
    PerClass,
    Positive,
    Section,
    Temperature,
)


class HyperPrototypeOptions(Section):
    """S [C, K, D] and its server update [P.2] [R.c5]."""

    prototypes_per_class: PerClass
    init: Start
    matching_steps: CountOrZero
    matching_lr: Positive
    matching_distance: MatchingDistance
    matching_head: Literal["client", "calibrated"]
    virtual_scale: VirtualScale
    counts: str

    @property
    def counts_by_class(self) -> dict[int, int]:
        """K of the classes that have another K than the rest.

        Raises:
            ConfigError: `hyper-prototypes.counts` is not of its form.
        """
        counts = named_counts(self.counts, "hyper-prototypes.counts")
        if not all(label.isdecimal() and label == str(int(label[:9])) for label in counts):
            raise ConfigError(f"hyper-prototypes.counts = {self.counts!r}: write it as class=count, class=count")
        if counts and max(counts.values()) > MOST_PER_CLASS:
            raise ConfigError(
                f"hyper-prototypes.counts = {self.counts!r}: a class has at most {MOST_PER_CLASS} vectors"
            )
        return {int(label): count for label, count in counts.items()}


class LossOptions(Section):
    """HPCL, HPAL and the client's margin [P.3] [P.4] [R.hpcl] [R.hpal] [R.margin]."""

    temperature: Temperature
    margin: MarginReading
    hpcl: Literal["paper", "reference", "off"]
    hpal: Literal["paper", "unit", "reference", "off"]
    hpcl_weight: NotNegative
    hpal_weight: NotNegative
    margin_pairs: MarginPairs
    margin_schedule: Literal["constant", "ramp"]
    correction: Literal["none", "control-variates"]
    logit_adjustment: NotNegative


class ClassGradientOptions(Section):
    """What a client measures before it trains [P.1] [R.grads]."""

    samples_per_class: CountOrZero
    repeats: Count
    augment: Literal["none", "dsa"]
    scale: GradientScale
    weighting: ClassWeighting


class CalibrationOptions(Section):
    """The server's re-training of the head on learned prototypes [R.c3] [R.c4]."""

    head: Literal["off", "replace", "separate"]
    from_imbalance: NotNegative
    first_head: Literal["model", "fresh"]
    prototypes_per_class: PerClass
    matching_steps: CountOrZero
    matching_lr: Positive
    matching_distance: HeadDistance
    epochs: CountOrZero
    batch_size: Count
    lr: Positive
