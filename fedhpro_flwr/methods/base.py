"""What a federated method adds to local SGD and weighted averaging: its hooks at the client and on the server.

A new method is one file with a subclass under the decorator `@method("name")`, and its name in the import of
methods/__init__.py. The base class is FedAvg (McMahan et al., AISTATS 2017): clients minimise cross-entropy, the server
averages models.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, TypeVar

from torch import Tensor

from fedhpro_flwr.config import ConfigError, RunConfig
from fedhpro_flwr.head import Head
from fedhpro_flwr.methods.arrival import Arrival, Correction, Departure, LocalLoss
from fedhpro_flwr.methods.misspelt import refuse_misspelt
from fedhpro_flwr.metrics import Scores
from fedhpro_flwr.prototypes import Prototypes
from fedhpro_flwr.records import Shape, Tensors, Update
from fedhpro_flwr.registry import Registry
from fedhpro_flwr.seeding import Draws
from fedhpro_flwr.settings.sections import Share
from fedhpro_flwr.timing import Stopwatch


@dataclass(frozen=True, eq=False)
class ServerStep:
    """What the server's part of a round computes from the replies."""

    model: Tensors
    state: object
    metrics: Mapping[str, float] = field(default_factory=dict)  # finite numbers
    voids: bool = False  # whether what clients have kept so far counts no more: each begins anew


class Method:
    """FedAvg, and the hooks that the other methods override."""

    name: ClassVar[str] = "fedavg"
    shares: ClassVar[tuple[Share, ...]] = ("all", "group", "head")  # what it can work with; see `model.share`
    takes_hyper_prototypes: ClassVar[bool] = False  # in place of its own; see `method.prototypes`

    def __init__(self, config: RunConfig) -> None:
        self.config = config

    @classmethod
    def refuse(cls, config: RunConfig) -> None:
        """Look at settings that this method cannot work with, before anything starts.

        Raises:
            ConfigError: there are some, and which it can work with.
        """
        if config.model.share not in cls.shares:
            raise ConfigError(
                f"method.name = {cls.name!r} does not work with model.share = {config.model.share!r}, "
                f"only with {', '.join(map(repr, cls.shares))}"
            )
        travels = cls.share_of(config)
        if travels == "all" and len(config.model.group_sizes) > 1:
            raise ConfigError(
                "model.share = 'all': models of different architectures cannot be averaged; "
                "use 'group' (encoders averaged within their group), 'head' or 'nothing' (they stay with their clients)"
            )
        if config.privacy.withhold and travels != "nothing" and config.privacy.model_noise == 0:
            raise ConfigError(
                f"privacy.withhold = true needs noise on all that is sent, and with model.share = {travels!r} "
                "that is a model too: set privacy.model-clip and privacy.model-noise"
            )
        if config.method.prototypes == "hyper" and not cls.takes_hyper_prototypes:
            raise ConfigError(f"method.prototypes = 'hyper': method.name = {cls.name!r} has no prototypes to replace")
        if config.privacy.withhold and cls.sends_of_classes(config) and config.privacy.class_noise == 0:
            raise ConfigError(
                f"privacy.withhold = true needs noise on all that is sent, and method.name = {cls.name!r} sends of "
                "each class: set privacy.class-clip and privacy.class-noise"
            )

    @classmethod
    def sends_of_classes(cls, config: RunConfig) -> bool:
        """Whether clients send class tensors, CLASS_TENSORS in records.py, under these settings."""
        return False

    @classmethod
    def share_of(cls, config: RunConfig) -> Share:
        """What of a client's model travels under these settings."""
        return config.model.share

    @property
    def share(self) -> Share:
        """What of a client's model travels."""
        return self.share_of(self.config)

    @property
    def server_rates(self) -> tuple[str, ...]:
        """Keys of the rates at which the server trains under these settings: they are named where it diverges."""
        return ()

    def refuse_data(self, *, images: bool) -> None:
        """Look at what the data must be for this method and these settings, before the first round.

        Raises:
            ConfigError: the settings need images and the data is not.
        """
        if self.config.local.augment != "none" and not images:
            raise ConfigError(
                f"local.augment = {self.config.local.augment!r} needs images; use 'none' for vectors and text"
            )

    # --- at the client, in the order of a visit -----------------------------------------------------------------------

    def upload(self, arrival: Arrival) -> dict[str, Tensor]:
        """What the client measures before it trains and sends beside its model, by record name."""
        return {}

    def local_loss(self, arrival: Arrival) -> LocalLoss | None:
        """What the client adds to the cross-entropy; None for nothing."""
        return None

    def logit_offsets(self, arrival: Arrival) -> Tensor | None:
        """What is added to the logits in the client's cross-entropy [C]; None for nothing."""
        return None

    def correction(self, arrival: Arrival) -> Correction | None:
        """What the client does to every step's gradients; None for nothing.

        A term of the loss in the weights alone belongs here: its gradient costs an addition and no graph.
        """
        return None

    def depart(self, arrival: Arrival, steps: int) -> Departure:
        """What the trained client sends beside its model and what it remembers; `steps` of SGD were made."""
        return Departure()

    # --- on the server ------------------------------------------------------------------------------------------------

    def start(self, model: Tensors) -> object:
        """The method's own state before round 1; `model` is the whole initial global model, whatever of it travels."""
        return None

    def broadcast(self, state: object) -> dict[str, Tensor]:
        """The part of the state that clients receive, by record name."""
        return {}

    def expects(self, state: object) -> dict[str, Shape]:
        """Names and shapes of what `upload` and `depart` send."""
        return {}

    def server_step(
        self, state: object, sent: Tensors, model: Tensors, updates: Sequence[Update], draws: Draws, watch: Stopwatch
    ) -> ServerStep:
        """Move the state after the models have been averaged.

        Args:
            state: before the round.
            sent: of the model that the clients received, all tensors that every client shares: with `model.share` =
                "head" or "group" the head alone. BatchNorm's statistics and counters are among them.
            model: their weighted mean.
            updates: their replies, in partition order.
            draws: the server's random draws of this round.
            watch: for the seconds of each phase.
        """
        return ServerStep(model, state, {})

    def prototypes(self, received: Tensors) -> Prototypes | None:
        """The global prototypes, one a class; None for a method without.

        Args:
            received: what the clients receive, as `broadcast` gives it.
        """
        return None

    def prototype_scores(self, received: Tensors) -> Scores | None:
        """How near features are to each class's prototypes, for accuracy by the nearest; None without prototypes."""
        prototypes = self.prototypes(received)
        return None if prototypes is None else prototypes.scores()

    def tested_head(self, received: Tensors) -> Head | None:
        """The head that decides in every test, and in the model that a run leaves, in place of the model's own.

        Args:
            received: what the clients receive, as `broadcast` gives it.
        """
        return None

    def tested_scores(self, received: Tensors) -> tuple[Scores | None, Scores | None]:
        """What decides in a test: in place of the model's own head, and, where `evaluation.nearest-prototype` asks for
        it, by the nearest prototypes.

        The server and the clients test by the same: their numbers stand side by side in every table.
        """
        head = self.tested_head(received)
        by_prototypes = self.prototype_scores(received) if self.config.evaluation.nearest_prototype else None
        return head and head.scores, by_prototypes

    def tensors(self, state: object) -> dict[str, Tensor]:
        """The state as named tensors, to be saved."""
        return {}

    def saved(self, state: object) -> dict[str, Tensor]:
        """All of the state as named tensors for a checkpoint: `tensors`, and what that leaves out.

        Raises:
            ConfigError: the method has a state and does not say how to make it again.
        """
        if state is not None and type(self).restored is Method.restored:
            raise ConfigError(
                f"method.name = {self.name!r}: its class has a state and no `restored`, so its checkpoints could not "
                "be resumed; write one, or set checkpoint.every = 0"
            )
        return self.tensors(state)

    def restored(self, start: object, saved: Tensors) -> object:
        """The inverse of `saved`.

        Args:
            start: the state before round 1, of `start`.
            saved: what `saved` gave, bit for bit.

        Raises:
            ConfigError: the method has a state and does not say how to make it again.
        """
        if start is not None or saved:
            raise ConfigError(f"method.name = {self.name!r} cannot be resumed: its class has a state and no `restored`")
        return None


METHODS: Registry[type[Method]] = Registry("method.name")
M = TypeVar("M", bound=type[Method])


def method(name: str) -> Callable[[M], M]:
    """Register the decorated class under `name`."""

    def register(cls: M) -> M:
        refuse_misspelt(cls, Method, name)
        cls.name = name
        METHODS.register(name)(cls)
        return cls

    return register
