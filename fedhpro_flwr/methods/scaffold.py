r"""SCAFFOLD: Karimireddy et al., SCAFFOLD: Stochastic Controlled Averaging for Federated Learning, ICML 2020.

.. math::
    y \leftarrow y - \eta (g(y) - c_k + c), \qquad c_k^+ = c_k - c + \frac{x - y}{\eta A}, \qquad
    x \leftarrow x + \frac{1}{|S|} \sum_{k \in S} (y_k - x), \qquad
    c \leftarrow c + \frac{1}{N} \sum_{k \in S} (c_k^+ - c_k)

with x the received model, y the trained one, N all clients and S those of the round: its option II and a global step of
1. Without momentum A is the number of local steps, as published. With momentum m a step is felt in all steps after it,
so A = sum_t (1 - m^t) / (1 - m) over the steps: (x - y) / (eta A) is again a mean of the gradients that were taken.

That is `scaffold.weighting = "clients"`. With "samples" (in corrected.py: if `aggregation.weighting` says so) both
means are weighted by the clients' numbers of samples n_k:

.. math::
    x \leftarrow x + \frac{\sum_{k \in S} n_k (y_k - x)}{\sum_{k \in S} n_k}, \qquad
    c \leftarrow c + \frac{\sum_{k \in S} n_k (c_k^+ - c_k)}{\sum_k n_k}

so that in the mean of the models, too, the corrections c - c_k cancel. A client that never came has c_k = 0 and, as
nobody knows its n_k, the mean n_k of the others.

A client sends no more than its model: x, y, c and the number of its samples give c_k^+ - c_k, so the server computes it
too, and what bounds a model (`aggregation.*`) bounds it as well. A lie about the number of samples, on which A depends,
is noticed if the server divides the data. A client with data of its own that claims 1 makes its change larger.

c is the mean of the c_k as long as each client has the c_k that the server has counted. If a client loses its c_k, it
goes on with 0; if its number of samples changes, its c_k was counted with another weight. Either way c would be wrong
for good, so the server begins anew, with c = 0 and all c_k = 0 (`ServerStep.voids`).

A client whose reply did not count (lost, late, set aside) goes on with the c_k that it had before, as with all that
clients keep (visits.py): otherwise c, which lacks the change, would never again be the mean of the c_k.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from logging import WARNING
from typing import ClassVar, cast

import torch
from flwr.common.logger import log
from torch import Tensor

from fedhpro_flwr.aggregation import RUNNING_STATISTICS, ModelWeighting, weighted_mean
from fedhpro_flwr.config import ConfigError, RunConfig
from fedhpro_flwr.methods.arrival import Arrival, Correction, Departure
from fedhpro_flwr.methods.base import Method, ServerStep, method
from fedhpro_flwr.models import Model
from fedhpro_flwr.records import Tensors, Update
from fedhpro_flwr.seeding import Draws
from fedhpro_flwr.settings.sections import Share
from fedhpro_flwr.timing import Stopwatch

CONTROL = "control-variate"  # of the server, c; in a client's memory its own, c_k^+: [W]
WEIGHTS = "client-weights"  # [N] int64


@dataclass(frozen=True, eq=False)
class ScaffoldState:
    """What the server remembers from round to round."""

    control: Tensor  # c [W]
    weights: Tensor  # the weight of each client [N] int64; 0 until its first reply


@method("scaffold")
class Scaffold(Method):
    """A control variate is one vector of all W floating-point numbers of the model, in the order of its state dict.

    BatchNorm's statistics have no gradient: their part of the vector stays zero.
    """

    shares: ClassVar[tuple[Share, ...]] = ("all",)

    def __init__(self, config: RunConfig, weighting: ModelWeighting | None = None) -> None:
        super().__init__(config)
        self.weighting = weighting or config.scaffold.weighting

    @classmethod
    def refuse(cls, config: RunConfig) -> None:
        """Also refuse settings that control variates do not work with."""
        super().refuse(config)
        refuse_uncontrolled(config, "method.name = 'scaffold'", "choose another method")

    def correction(self, arrival: Arrival) -> Correction:
        """grad <- grad - c_k + c."""
        shift = _by_name(arrival.model, self._server(arrival) - self._own(arrival))

        @torch.no_grad()
        def steer() -> None:
            for name, parameter in arrival.model.named_parameters():
                if parameter.grad is not None:
                    parameter.grad.add_(shift[name])

        return steer

    def depart(self, arrival: Arrival, steps: int) -> Departure:
        """c_k^+ is remembered; the server computes c_k^+ - c_k by itself."""
        received = arrival.received
        trained = {name: tensor.cpu() for name, tensor in arrival.model.state_dict().items()}
        change = self.change(received.model, trained, received.tensors[CONTROL], steps)
        return Departure({}, {CONTROL: self._own(arrival).cpu() + change})

    def change(self, received: Tensors, trained: Tensors, control: Tensor, steps: int) -> Tensor:
        """c_k^+ - c_k = (x - y) / (eta A) - c, all on the CPU, so that client and server get the same bits.

        Args:
            received: x.
            trained: y.
            control: c [W].
            steps: of local training.

        Returns:
            [W]
        """
        local = self.config.local
        return _moved(received, trained) / (local.lr * felt_steps(steps, local.momentum)) - control

    def start(self, model: Tensors) -> ScaffoldState:
        """c = 0."""
        control = torch.zeros(sum(tensor.numel() for tensor in model.values() if tensor.is_floating_point()))
        nobody = torch.zeros(self.config.partition.num_partitions, dtype=torch.int64)
        return ScaffoldState(control, nobody)

    def broadcast(self, state: object) -> dict[str, Tensor]:
        """The server's control variate c."""
        return {CONTROL: cast(ScaffoldState, state).control}

    def server_step(
        self, state: object, sent: Tensors, model: Tensors, updates: Sequence[Update], draws: Draws, watch: Stopwatch
    ) -> ServerStep:
        """x becomes the mean of the clients' models; c moves by the mean change over all N clients."""
        state = cast(ScaffoldState, state)
        with watch("control-variates"):
            examples = [update.num_examples if self.weighting == "samples" else 1 for update in updates]
            weights = state.weights.clone()
            weights[[update.partition_id for update in updates]] = torch.tensor(examples)
            change = torch.zeros(len(state.control), dtype=torch.float64)
            for weight, update in zip(examples, updates, strict=True):
                trained = {name: update.model[name] for name in sent}  # in the server's order of tensors
                steps = self.config.local.steps(update.num_examples)
                change += weight * self.change(sent, trained, state.control, steps)
            before, total = total_weight(state.weights), total_weight(weights)
            control = state.control * (before / total) + (change / total).float()
            reweighted = (state.weights > 0) & (state.weights != weights)  # [N]
            anew = [each.partition_id for each in updates if each.began_anew or reweighted[each.partition_id]]
            if anew:
                log(WARNING, "client %d lost its control variate or changed its samples: all begin anew at 0", anew[0])
                control = torch.zeros_like(control)
            if self.weighting != self.config.aggregation.weighting:
                model = weighted_mean([update.model for update in updates], examples)
        norm = float(torch.linalg.vector_norm(control))
        return ServerStep(model, ScaffoldState(control, weights), {"control-variate-norm": norm}, voids=bool(anew))

    def tensors(self, state: object) -> dict[str, Tensor]:
        """The server's control variate c."""
        return self.broadcast(state)

    def saved(self, state: object) -> dict[str, Tensor]:
        """c, and the clients' weights."""
        return self.tensors(state) | {WEIGHTS: cast(ScaffoldState, state).weights}

    def restored(self, start: object, saved: Tensors) -> ScaffoldState:
        """The inverse of `saved`."""
        return ScaffoldState(saved[CONTROL], saved[WEIGHTS])

    def _server(self, arrival: Arrival) -> Tensor:
        return arrival.received.tensors[CONTROL].to(arrival.data.device)

    def _own(self, arrival: Arrival) -> Tensor:
        server, memory = self._server(arrival), arrival.memory
        return memory[CONTROL].to(server) if memory else torch.zeros_like(server)


def refuse_uncontrolled(config: RunConfig, named: str, otherwise: str) -> None:
    """Control variates need plain means of whole models, sent as clients have trained them.

    Args:
        config: the settings.
        named: the setting that asks for control variates, for the message.
        otherwise: what else can be done, for the message's end.

    Raises:
        ConfigError: part of a model stays with its client, the server bounds or takes another statistic than the mean,
            or clients clip what they send.
    """
    if config.model.share not in Scaffold.shares:
        raise ConfigError(f"{named} needs model.share = 'all', not {config.model.share!r}; or {otherwise}")
    if config.aggregation.bounds_clients:
        raise ConfigError(
            f"{named} is defined with means: leave aggregation.model at 'mean', aggregation.clip-norm at 0 and "
            f"aggregation.clip-to-median at false, or {otherwise}"
        )
    if config.privacy.model_clip > 0:
        raise ConfigError(
            f"{named} reads control variates off the models that clients send, which privacy.model-clip and "
            f"privacy.model-noise falsify: leave both at 0, or {otherwise}"
        )


def total_weight(weights: Tensor) -> float:
    """sum_k n_k over all N clients; one that never came (weight 0 in [N]) counts as the mean of the others."""
    came = int((weights > 0).sum())
    return int(weights.sum()) * len(weights) / came if came else 0.0


def felt_steps(steps: int, momentum: float) -> float:
    """A = sum_{t=1}^{steps} (1 - m^t) / (1 - m), which is `steps` without momentum.

    The gradient that step s adds to the velocity moves the weights in each later step too, so it is felt
    1 + m + ... + m^(steps - s) = (1 - m^(steps - s + 1)) / (1 - m) times.
    """
    if momentum == 0:
        return float(steps)
    return (steps - momentum * (1 - momentum**steps) / (1 - momentum)) / (1 - momentum)


def _by_name(model: Model, vector: Tensor) -> dict[str, Tensor]:
    tensors = {name: tensor for name, tensor in model.state_dict().items() if tensor.is_floating_point()}
    parts = torch.split(vector, [tensor.numel() for tensor in tensors.values()])
    return {name: part.view(tensor.shape) for (name, tensor), part in zip(tensors.items(), parts, strict=True)}


def _moved(received: Tensors, trained: Tensors) -> Tensor:
    """x - y over all floating-point numbers of the model [W], zero for BatchNorm's statistics."""
    parts = [
        torch.zeros_like(tensor) if name.endswith(RUNNING_STATISTICS) else received[name] - tensor
        for name, tensor in trained.items()
        if tensor.is_floating_point()
    ]
    return torch.cat([part.flatten() for part in parts])
