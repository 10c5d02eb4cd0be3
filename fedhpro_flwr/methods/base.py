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

    model: Tensors  # the tensors that `server_step` was given as `model`, of the same shapes and types
    state: object  # after the round
    metrics: Mapping[str, float] = field(default_factory=dict)  # finite numbers
    voids: bool = False  # whether what clients have kept so far is void, so that each begins anew


class Method:
    """FedAvg, and the hooks that the other methods override."""

    name: ClassVar[str] = "fedavg"
    shares: ClassVar[tuple[Share, ...]] = ("all", "group", "head")  # the values of `model.share` that it works with
    takes_hyper_prototypes: ClassVar[bool] = False  # whether they can replace its own; see `method.prototypes`

    def __init__(self, config: RunConfig) -> None:
        self.config = config

    @classmethod
    def refuse(cls, config: RunConfig) -> None:
        """Check, before anything starts, that this method can work with the settings.

        Raises:
            ConfigError: it cannot; the message says which settings it can work with.
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
            raise ConfigError(f"method.prototypes = 'hyper' is not offered for method.name = {cls.name!r}")
        if config.privacy.withhold and cls.sends_of_classes(config) and config.privacy.class_noise == 0:
            raise ConfigError(
                f"privacy.withhold = true needs noise on all that is sent, and method.name = {cls.name!r} sends of "
                "each class: set privacy.class-clip and privacy.class-noise"
            )

    @classmethod
    def sends_of_classes(cls, config: RunConfig) -> bool:
        """Whether clients send any of CLASS_TENSORS (records.py) under these settings."""
        return False

    @classmethod
    def share_of(cls, config: RunConfig) -> Share:
        """Which part of a client's model travels under these settings."""
        return config.model.share

    @property
    def share(self) -> Share:
        """Which part of a client's model travels."""
        return self.share_of(self.config)

    @property
    def server_rates(self) -> tuple[str, ...]:
        """Keys of the learning rates of the server's own training; the error names them if that training diverges."""
        return ()

    def refuse_data(self, *, images: bool) -> None:
        """Check, before the first round, that this method and these settings can work with the data.

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

        A loss term that depends on the weights alone belongs here: its gradient is one addition, without autograd.
        """
        return None

    def depart(self, arrival: Arrival, steps: int) -> Departure:
        """What the trained client sends beside its model and what it remembers, after `steps` SGD steps."""
        return Departure()

    # --- on the server ------------------------------------------------------------------------------------------------

    def start(self, model: Tensors) -> object:
        """The method's own state before round 1; `model` is the whole initial global model, even if a part stays."""
        return None

    def broadcast(self, state: object) -> dict[str, Tensor]:
        """The part of the state that clients receive, by record name."""
        return {}

    def expects(self, state: object) -> dict[str, Shape]:
        """Names and shapes of what `upload` and `depart` send; "P" is the number of classes that a client holds.

        All are float32 but `class-ids` and `class-counts`, which are int64.
        """
        return {}

    def server_step(
        self, state: object, sent: Tensors, model: Tensors, updates: Sequence[Update], draws: Draws, watch: Stopwatch
    ) -> ServerStep:
        """Move the state after the models have been averaged.

        Args:
            state: before the round.
            sent: the tensors of the received model that all clients share: with `model.share` = "head" or "group" the
                head alone; else the whole model, BatchNorm's statistics and counters included.
            model: the new values of these tensors, the mean of the clients'.
            updates: the clients' replies, in partition order.
            draws: the server's random draws of this round.
            watch: for the seconds of each phase.
        """
        return ServerStep(model, state, {})

    def prototypes(self, received: Tensors) -> Prototypes | None:
        """The global prototypes, one per class; None for a method that has none.

        Args:
            received: what the clients receive, as `broadcast` gives it.
        """
        return None

    def prototype_scores(self, received: Tensors) -> Scores | None:
        """How near features are to each class's prototypes, for the test by the nearest; None without prototypes."""
        prototypes = self.prototypes(received)
        return None if prototypes is None else prototypes.scores()

    def tested_head(self, received: Tensors) -> Head | None:
        """The head that replaces the model's own in every test and in the model that a run leaves; None to keep it.

        Args:
            received: what the clients receive, as `broadcast` gives it.
        """
        return None

    def tested_scores(self, received: Tensors) -> tuple[Scores | None, Scores | None]:
        """What decides in a test: the scores that replace the model's own head (None: it decides itself), and, if
        `evaluation.nearest-prototype` is set, those of the nearest prototypes.

        Server and clients test with the same scores: their numbers stand side by side in every table.
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
            ConfigError: the method has a state, but no `restored` that rebuilds it.
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
            start: the state before round 1, as `start` gives it.
            saved: what `saved` gave, bit for bit.

        Raises:
            ConfigError: the method has a state, but does not override this.
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
