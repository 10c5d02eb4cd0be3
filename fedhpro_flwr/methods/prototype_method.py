"""What FedProto, FedTGP, FedSA, FPL and plain averaging have in common: class means up, global prototypes down.

A client that has trained sends the mean feature of each of its classes. From these the server makes global prototypes
p [C, D], each method in its own way, and the clients' loss uses them. With `method.prototypes = "hyper"`
hyper-prototypes take their place: hyper_plug_in.py.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol, cast

from torch import Tensor

from fedhpro_flwr.aggregation import ClassAverage, ClassWeighting
from fedhpro_flwr.chosen_aggregation import average_classes
from fedhpro_flwr.class_means import ClassMeans
from fedhpro_flwr.config import ConfigError, RunConfig
from fedhpro_flwr.head import head_shape
from fedhpro_flwr.methods.arrival import Arrival, Departure, LocalLoss
from fedhpro_flwr.methods.base import Method, ServerStep
from fedhpro_flwr.prototypes import Prototypes
from fedhpro_flwr.records import (
    CLASS_COUNTS,
    CLASS_IDS,
    CLASS_PROTOTYPES,
    GLOBAL_PROTOTYPES,
    KNOWN_CLASSES,
    Shape,
    Tensors,
    Update,
)
from fedhpro_flwr.seeding import Draws
from fedhpro_flwr.settings.sections import Share
from fedhpro_flwr.timing import Stopwatch


class HasPrototypes(Protocol):
    """The server's state of such a method: at least the global prototypes."""

    @property
    def prototypes(self) -> Prototypes:
        """The prototypes that clients receive."""


@dataclass(frozen=True, eq=False)
class GlobalPrototypes:
    """The state of a method whose server remembers its global prototypes and nothing else."""

    prototypes: Prototypes


class PrototypeMethod(Method, ABC):
    """A subclass says how the server's prototypes move, `update_prototypes`, and the clients' loss, `prototype_loss`.

    It overrides `start_prototypes` if the prototypes do not begin empty, and `restore_prototypes` if its state holds
    more than them.
    """

    shares: ClassVar[tuple[Share, ...]] = ("all", "group", "head", "nothing")
    averages_classes: ClassVar[bool] = True  # whether its prototypes are averages of the clients' class means

    @classmethod
    def refuse(cls, config: RunConfig) -> None:
        """Also refuse hyper-prototypes without a shared head, and a statistic of class means that are not averaged."""
        super().refuse(config)
        if config.method.prototypes == "hyper" and config.model.share == "nothing":
            raise ConfigError(
                "method.prototypes = 'hyper' needs a head that clients and server share: "
                "model.share = 'all', 'group' or 'head', not 'nothing'"
            )
        statistic, averages = config.aggregation.class_gradients, cls.averages_classes
        if statistic != "mean" and not averages and config.method.prototypes == "own":
            raise ConfigError(
                f"aggregation.class-gradients = {statistic!r}: method.name = {cls.name!r} takes the clients' class "
                "means one by one and averages none; leave it at 'mean'"
            )

    @classmethod
    def sends_of_classes(cls, config: RunConfig) -> bool:
        """Whether clients send class means, or class gradients for hyper-prototypes that are not frozen."""
        return config.method.prototypes == "own" or config.hyper_prototypes.matching_steps > 0

    # --- what a subclass says -----------------------------------------------------------------------------------------

    def start_prototypes(self, num_classes: int, width: int) -> HasPrototypes:
        """The state before round 1: no class has a prototype yet."""
        return GlobalPrototypes(Prototypes.none(num_classes, width))

    @abstractmethod
    def update_prototypes(self, state: HasPrototypes, means: Sequence[ClassMeans], draws: Draws) -> HasPrototypes:
        """The state after a round, from the clients' class means in partition order."""

    def restore_prototypes(self, saved: Tensors) -> HasPrototypes:
        """The state that `tensors` saved."""
        return GlobalPrototypes(self.prototypes(saved))

    @abstractmethod
    def prototype_loss(self, arrival: Arrival, prototypes: Prototypes) -> LocalLoss | None:
        """What a client adds to the cross-entropy; `prototypes` are on the device of its data."""

    def averaged(
        self, means: Sequence[ClassMeans], num_classes: int, weighting: ClassWeighting = "clients"
    ) -> ClassAverage:
        """The clients' class means averaged as `aggregation.*` says: [C, D], and which classes anybody sent [C]."""
        return average_classes(
            self.config.aggregation,
            [each.class_ids for each in means],
            [each.means for each in means],
            [each.counts for each in means],
            num_classes,
            weighting=weighting,
        )

    # --- the hooks ----------------------------------------------------------------------------------------------------

    def local_loss(self, arrival: Arrival) -> LocalLoss | None:
        """The method's own loss, on the prototypes that were received."""
        prototypes = self.prototypes(arrival.received.tensors)
        if not bool(prototypes.known.any()):  # round 1
            return None
        return self.prototype_loss(arrival, prototypes.on(arrival.data.device))

    def depart(self, arrival: Arrival, steps: int) -> Departure:
        """Class means of the trained encoder on all training samples, in eval mode."""
        means = class_means(arrival)
        return Departure(
            {CLASS_PROTOTYPES: means.means, CLASS_IDS: means.class_ids, CLASS_COUNTS: means.counts},
        )

    def start(self, model: Tensors) -> object:
        """The method's first prototypes."""
        return self.start_prototypes(*head_shape(model))

    def broadcast(self, state: object) -> dict[str, Tensor]:
        """p [C, D] and which classes have one [C]."""
        prototypes = cast(HasPrototypes, state).prototypes
        return {GLOBAL_PROTOTYPES: prototypes.vectors, KNOWN_CLASSES: prototypes.known}

    def expects(self, state: object) -> dict[str, Shape]:
        """The records of `depart`."""
        width = cast(HasPrototypes, state).prototypes.vectors.shape[1]
        return {CLASS_PROTOTYPES: ("P", width), CLASS_IDS: ("P",), CLASS_COUNTS: ("P",)}

    def server_step(
        self, state: object, sent: Tensors, model: Tensors, updates: Sequence[Update], draws: Draws, watch: Stopwatch
    ) -> ServerStep:
        """Move the prototypes."""
        with watch("prototypes"):
            means = [
                ClassMeans(each.tensors[CLASS_IDS], each.tensors[CLASS_PROTOTYPES], each.tensors[CLASS_COUNTS])
                for each in updates
            ]
            return ServerStep(model, self.update_prototypes(cast(HasPrototypes, state), means, draws), {})

    def prototypes(self, received: Tensors) -> Prototypes:
        """The prototypes among what clients receive."""
        return Prototypes(received[GLOBAL_PROTOTYPES], received[KNOWN_CLASSES])

    def tensors(self, state: object) -> dict[str, Tensor]:
        """The prototypes under their wire names."""
        return self.broadcast(state)

    def restored(self, start: object, saved: Tensors) -> object:
        """The inverse of `tensors`."""
        return self.restore_prototypes(saved)


def class_means(arrival: Arrival) -> ClassMeans:
    """C_k^c: mean feature of each of the client's classes, in eval mode."""
    return ClassMeans.of(arrival.features, arrival.train.labels, arrival.model.num_classes)
