"""Local-only training: every client trains its own model on its own data, and nothing is averaged.

What federation is worth to a client is measured against this.
"""

from __future__ import annotations

from typing import ClassVar

from fedhpro_flwr.config import RunConfig
from fedhpro_flwr.methods.base import Method, method
from fedhpro_flwr.settings.sections import Share


@method("local")
class Local(Method):
    """No tensor of the model travels; a client goes on with the model it kept from its last visit."""

    shares: ClassVar[tuple[Share, ...]] = ("all", "group", "head", "nothing")  # whichever is set, nothing travels

    @classmethod
    def share_of(cls, config: RunConfig) -> Share:
        """Always "nothing"."""
        return "nothing"
