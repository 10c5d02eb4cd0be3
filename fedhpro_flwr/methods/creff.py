"""CReFF: Shang et al., Federated Learning on Heterogeneous and Long-Tailed Data via Classifier Re-Training with
Federated Features, IJCAI 2022.

The calibration alone: clients train with the cross-entropy and the averaged head; beside their model they send the mean
gradient of each class with respect to a second head [R.grads]; the server moves its federated features F until their
gradients agree [R.c3] and trains that second head on F [R.c4], which is what the global model is tested with.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, cast

from torch import Tensor

from fedhpro_flwr.config import RunConfig
from fedhpro_flwr.head import Head, head_of
from fedhpro_flwr.methods.arrival import Arrival
from fedhpro_flwr.methods.base import Method, ServerStep, method
from fedhpro_flwr.methods.class_samples import refuse_augmented
from fedhpro_flwr.methods.class_uploads import measured_classes
from fedhpro_flwr.methods.head_calibration import (
    Calibrated,
    head_gradient_records,
    head_gradient_shapes,
    received_head,
    sent_head,
)
from fedhpro_flwr.records import (
    CLASS_COUNTS,
    CLASS_IDS,
    Shape,
    Tensors,
    Update,
)
from fedhpro_flwr.seeding import Draws
from fedhpro_flwr.settings.fedhpro_sections import CalibrationOptions
from fedhpro_flwr.settings.sections import Share
from fedhpro_flwr.timing import Stopwatch

FEDERATED_FEATURES = "federated-features"  # F [C, M, D]


@method("creff")
class Creff(Method):
    """FedHPro's calibration, kept apart from the averaged head, under the settings of the section `creff`."""

    shares: ClassVar[tuple[Share, ...]] = ("all", "group")  # the second head belongs to a global model

    def __init__(self, config: RunConfig) -> None:
        super().__init__(config)
        as_published = {"head": "separate", "first-head": "model", "from-imbalance": 0.0}
        self.options = CalibrationOptions.model_validate(as_published | config.creff.model_dump(by_alias=True))

    @property
    def server_rates(self) -> tuple[str, ...]:
        """The rates of the matching and of the second head's training."""
        return ("creff.matching-lr", "creff.lr")

    @classmethod
    def sends_of_classes(cls, config: RunConfig) -> bool:
        """True: head gradients."""
        return True

    def refuse_data(self, *, images: bool) -> None:
        """Also refuse the augmentation DSA unless the data is images."""
        super().refuse_data(images=images)
        refuse_augmented(self.config.class_gradients, images=images)

    def upload(self, arrival: Arrival) -> dict[str, Tensor]:
        """Head gradients of each class."""
        gradients = measured_classes(arrival, self.config.class_gradients, head_gradients=True)
        return {CLASS_IDS: gradients.class_ids, CLASS_COUNTS: gradients.counts, **head_gradient_records(gradients)}

    def start(self, model: Tensors) -> Calibrated:
        """F ~ N(0, 1); in round 1 the second head is the model's own.

        Raises:
            ConfigError: the model's head has no bias.
        """
        classes, width = head_of(model).weight.shape
        return Calibrated.start(self.options, classes, width, Draws(self.config.seed))

    def broadcast(self, state: object) -> dict[str, Tensor]:
        """The second head, once there is one."""
        return sent_head(cast(Calibrated, state).head)

    def expects(self, state: object) -> dict[str, Shape]:
        """The records of `upload`."""
        classes, _, width = cast(Calibrated, state).prototypes.shape
        return {CLASS_IDS: ("P",), CLASS_COUNTS: ("P",), **head_gradient_shapes(classes, width)}

    def server_step(
        self, state: object, sent: Tensors, model: Tensors, updates: Sequence[Update], draws: Draws, watch: Stopwatch
    ) -> ServerStep:
        """F and the second head move [R.c3] [R.c4]; the averaged model stays as it is."""
        state = cast(Calibrated, state)
        with watch("calibration"):
            used = state.head or head_of(sent)
            state = state.next(self.options, used, updates, draws, self.config.aggregation)
        return ServerStep(model, state, {})

    def tested_head(self, received: Tensors) -> Head | None:
        """The second head."""
        return received_head(received)

    def tensors(self, state: object) -> dict[str, Tensor]:
        """F and the second head."""
        state = cast(Calibrated, state)
        return {FEDERATED_FEATURES: state.prototypes, **sent_head(state.head)}

    def restored(self, start: object, saved: Tensors) -> Calibrated:
        """The inverse of `tensors`."""
        return Calibrated(saved[FEDERATED_FEATURES], received_head(saved))
