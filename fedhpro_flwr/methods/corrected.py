"""FedHPro with SCAFFOLD's control variates at the clients: `losses.correction = "control-variates"`.

In neither publication. HPCL changes what a client minimises; a control variate takes from each of its steps the
direction in which it drifts from the others. Neither touches the other's tensors, so their hooks work side by side.
Unlike in SCAFFOLD, models and control variates are averaged by samples if `aggregation.weighting` says so: a client of
few images has a control variate from few noisy steps, which would otherwise count as much as any other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, cast

from torch import Tensor

from fedhpro_flwr.config import ConfigError, RunConfig
from fedhpro_flwr.methods.arrival import Arrival, Correction, Departure
from fedhpro_flwr.methods.base import ServerStep
from fedhpro_flwr.methods.fedhpro import FedHPro
from fedhpro_flwr.methods.scaffold import Scaffold
from fedhpro_flwr.records import Shape, Tensors, Update
from fedhpro_flwr.seeding import Draws
from fedhpro_flwr.settings.sections import Share
from fedhpro_flwr.timing import Stopwatch


@dataclass(frozen=True, eq=False)
class CorrectedState:
    """What the server remembers from round to round."""

    method: object  # FedHPro's state
    control: object  # SCAFFOLD's state


class CorrectedFedHPro(FedHPro):
    """The loss, upload and server of FedHPro; the corrected steps and memory of SCAFFOLD."""

    shares: ClassVar[tuple[Share, ...]] = Scaffold.shares

    def __init__(self, config: RunConfig) -> None:
        super().__init__(config)
        self.scaffold = Scaffold(config, config.aggregation.weighting)

    # --- at the client ------------------------------------------------------------------------------------------------

    def correction(self, arrival: Arrival) -> Correction:
        """SCAFFOLD's correction, here of the gradient of CE + HPCL + HPAL."""
        return self.scaffold.correction(arrival)

    def depart(self, arrival: Arrival, steps: int) -> Departure:
        """SCAFFOLD's memory."""
        return self.scaffold.depart(arrival, steps)

    # --- on the server ------------------------------------------------------------------------------------------------

    def start(self, model: Tensors) -> CorrectedState:
        """Both states."""
        return CorrectedState(super().start(model), self.scaffold.start(model))

    def broadcast(self, state: object) -> dict[str, Tensor]:
        """What both broadcast."""
        state = cast(CorrectedState, state)
        return super().broadcast(state.method) | self.scaffold.broadcast(state.control)

    def expects(self, state: object) -> dict[str, Shape]:
        """FedHPro's records: SCAFFOLD's clients upload none."""
        return super().expects(cast(CorrectedState, state).method)

    def server_step(
        self, state: object, sent: Tensors, model: Tensors, updates: Sequence[Update], draws: Draws, watch: Stopwatch
    ) -> ServerStep:
        """SCAFFOLD's step first: FedHPro may re-train the head of the model that it gives."""
        state = cast(CorrectedState, state)
        control = self.scaffold.server_step(state.control, sent, model, updates, draws, watch)
        step = super().server_step(state.method, sent, control.model, updates, draws, watch)
        state, metrics = CorrectedState(step.state, control.state), {**step.metrics, **control.metrics}
        return ServerStep(step.model, state, metrics, voids=control.voids)

    def tensors(self, state: object) -> dict[str, Tensor]:
        """FedHPro's tensors: a control variate is of no use after the run."""
        return super().tensors(cast(CorrectedState, state).method)

    def saved(self, state: object) -> dict[str, Tensor]:
        """What both save."""
        state = cast(CorrectedState, state)
        return super().saved(state.method) | self.scaffold.saved(state.control)

    def restored(self, start: object, saved: Tensors) -> CorrectedState:
        """The inverse of `saved`."""
        start = cast(CorrectedState, start)
        return CorrectedState(super().restored(start.method, saved), self.scaffold.restored(start.control, saved))


def corrected(chosen: type[FedHPro]) -> type[CorrectedFedHPro]:
    """FedHPro, or a subclass of it, with control variates; a subclass's own hooks are called in place of FedHPro's.

    Raises:
        ConfigError: the subclass has a `correction` or `depart` of its own, which SCAFFOLD's would hide.
    """
    for hook in ("correction", "depart"):
        if getattr(chosen, hook) is not getattr(FedHPro, hook):
            raise ConfigError(
                f"losses.correction = 'control-variates': method.name = {chosen.name!r} has a `{hook}` of its own; "
                "set losses.correction = 'none'"
            )
    if chosen is FedHPro:
        return CorrectedFedHPro
    return cast(type[CorrectedFedHPro], type(f"Corrected{chosen.__name__}", (CorrectedFedHPro, chosen), {}))
