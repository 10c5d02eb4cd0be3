"""Hyper-prototypes in place of a method's own, `method.prototypes = "hyper"`: the plug-in of the FedHPro publication.

Clients send class gradients and the server moves hyper-prototypes with them, as in FedHPro without its calibration; the
method's own loss refers to their class means H.
"""

from __future__ import annotations

from typing import cast

from fedhpro_flwr.config import RunConfig
from fedhpro_flwr.methods.base import Method
from fedhpro_flwr.methods.fedhpro import FedHPro
from fedhpro_flwr.methods.prototype_method import PrototypeMethod
from fedhpro_flwr.metrics import Scores
from fedhpro_flwr.records import Tensors


class HyperPlugIn(FedHPro, PrototypeMethod):
    """The base behind a method's own hooks: FedHPro's upload and server part, but not its losses or scores."""

    def __init__(self, config: RunConfig) -> None:
        without_calibration = {"calibration.head": "off", "hyper-prototypes.matching-head": "client"}
        super().__init__(RunConfig.parse(config.flat() | without_calibration))

    logit_offsets = Method.logit_offsets
    local_loss = PrototypeMethod.local_loss
    depart = Method.depart  # no class means

    def prototype_scores(self, received: Tensors) -> Scores:
        """Nearness to H, the mean hyper-prototype of each class."""
        return self.prototypes(received).scores()


def plugged_in(chosen: type[PrototypeMethod]) -> type[HyperPlugIn]:
    """The method with hyper-prototypes: its own hooks come first, and their `super()` is the plug-in."""
    return cast(type[HyperPlugIn], type(f"Hyper{chosen.__name__}", (chosen, HyperPlugIn), {}))
