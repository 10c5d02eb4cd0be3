"""The sections of an experiment's settings, one frozen model each: what every key means, its bounds, its default.

`data` is a `DataSource` (data/registry.py) and `partition` a `PartitionPlan` (data/partition.py).
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from fedhpro_flwr.aggregation import ModelWeighting
from fedhpro_flwr.precision import Precision
from fedhpro_flwr.robust import Statistic
from fedhpro_flwr.settings.named_counts import dealt_in_turn, named_counts
from fedhpro_flwr.settings.section import Count, CountOrZero, NotNegative, Positive, Section, Threads, Width

Share = Literal["all", "group", "head", "nothing"]  # what of a client's model travels (exchange.py)
NoiseSource = Literal["secret", "seeded"]  # where a client's noise comes from (client/gaussian_noise.py)


class ClientsOptions(Section):
    """Who takes part in a round."""

    per_round: CountOrZero = 0
    sampling: Literal["round", "stream"] = "round"
    quorum: Annotated[float, Field(gt=0, le=1)] = 0.5
    retries: CountOrZero = 2
    timeout: Positive = 3600
    num_nodes: CountOrZero = 0
    threads: Threads = 1
    state_path: str = ""


class ModelChoice(Section):
    """Which network a client trains, its number of features D, and how much of it travels."""

    name: str = "cnn"
    width: Width = 64
    path: str = ""
    groups: str = ""
    share: Share = "all"

    @property
    def group_sizes(self) -> dict[str, int]:
        """Clients of each architecture; empty if all have the same.

        Raises:
            ConfigError: `model.groups` is not of its form.
        """
        return named_counts(self.groups, "model.groups")

    def architectures(self, clients: int) -> list[str]:
        """The name of the model that each client trains [N]."""
        return dealt_in_turn(self.group_sizes) or [self.name] * clients


class LocalOptions(Section):
    """A client's own SGD."""

    epochs: Count = 5
    batch_size: Count = 32
    lr: Positive = 0.05
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    weight_decay: NotNegative = 0.0
    augment: Literal["none", "per-sample", "per-batch"] = "none"
    flip: bool = True
    precision: Precision = "float32"
    cuda_graph: bool = False

    def steps(self, samples: int) -> int:
        """SGD steps in one visit (a client's part in a round). A smaller last batch of an epoch counts too."""
        return self.epochs * -(-samples // self.batch_size)


class MethodChoice(Section):
    """Which federated method, and whether hyper-prototypes take the place of its own prototypes."""

    name: str = "fedhpro"
    prototypes: Literal["own", "hyper"] = "own"


class AggregationOptions(Section):
    """How the clients' models and what they send of each class are summed, and how much one client can change."""

    model: Statistic = "mean"
    class_gradients: Statistic = "mean"
    weighting: ModelWeighting = "samples"
    trim: Annotated[float, Field(gt=0, lt=0.5)] = 0.2
    clip_norm: NotNegative = 0.0
    clip_to_median: bool = False
    max_update_norm: NotNegative = 0.0
    drop_contrary: bool = False

    @property
    def bounds_clients(self) -> bool:
        """Whether one client's weight is bounded: the sum is no mean, or a mean of clipped updates."""
        return self.model != "mean" or self.clip_norm > 0 or self.clip_to_median


class PrivacyOptions(Section):
    """What a client holds back of its reply; docs/privacy.md."""

    min_samples: Count = 1
    class_clip: NotNegative = 0.0
    class_noise: NotNegative = 0.0
    model_clip: NotNegative = 0.0
    model_noise: NotNegative = 0.0
    noise: NoiseSource = "secret"
    withhold: bool = False
    delta: Annotated[float, Field(gt=0, lt=1)] = 1e-5


class EvaluationOptions(Section):
    """When accuracy is measured."""

    every: Count = 1
    clients_every: CountOrZero = 1
    batch_size: Count = 100
    nearest_prototype: bool = False
    alone: str = ""

    def by_clients(self, server_round: int) -> bool:
        """Whether clients test the model that a round ended with; before round 1 there is none to test."""
        return self.clients_every > 0 and server_round > 0 and server_round % self.clients_every == 0


class CheckpointOptions(Section):
    """How often the server saves all that it needs to resume."""

    every: CountOrZero = 1
