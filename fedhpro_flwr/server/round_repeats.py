"""A round below the quorum is played again: the same draws, the same number, the bits that it would have given."""

from __future__ import annotations

from collections.abc import Callable
from logging import WARNING
from typing import TypeVar

from flwr.common.logger import log

from fedhpro_flwr.server.replies import QuorumError

Attempt = TypeVar("Attempt")


def until_quorum(
    attempt: Callable[[], Attempt], retries: int, pause: Callable[[], None]
) -> tuple[Attempt, tuple[str, ...]]:
    """Play a round until enough clients reply well.

    Nothing of an attempt below the quorum has touched the server's state; what its clients have kept of the round does
    not count (visits.py). A round is not repeated for clients that replied badly: they
    would do so again.

    Args:
        attempt: asks the clients and takes their replies; raises QuorumError.
        retries: how often it is repeated.
        pause: waits for nodes before it is.

    Returns:
        What the attempt returned, and who was set aside in earlier ones.

    Raises:
        QuorumError: of the last attempt.
    """
    earlier: list[str] = []
    number = 1
    while True:
        try:
            return attempt(), tuple(earlier)
        except QuorumError as lost:
            if number > retries or not lost.may_pass:
                raise
            log(WARNING, "%s; the round is repeated", lost)
            earlier += [f"attempt {number}: {reason}" for reason in lost.set_aside]
        pause()
        number += 1
