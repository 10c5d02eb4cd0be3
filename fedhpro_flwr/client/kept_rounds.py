"""Which rounds' states a client must keep, so that its server finds them wherever it is resumed.

A server that was killed goes on at its newest checkpoint, or at the one before if that is damaged. What a client had
kept by then must still be there; what it kept afterwards belongs to an attempt that was abandoned and does not count.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

KEPT_CHECKPOINTS = 2


def checkpoints_before(server_round: int, every: int, resumed_at: tuple[int, ...] = ()) -> list[int]:
    """The rounds whose checkpoints a server may still be resumed at while this round goes on, ascending.

    Args:
        server_round: the round that is played.
        every: `checkpoint.every`; 0 for no checkpoints.
        resumed_at: the rounds at whose checkpoints the run was resumed so far, the last one last.
    """
    written = set(resumed_at[-1:])
    if every:
        last = (server_round - 1) // every * every
        written |= {last - every * back for back in range(KEPT_CHECKPOINTS)}
    return sorted(number for number in written if 0 < number < server_round)[-KEPT_CHECKPOINTS:]


def needed(kept: Collection[int], server_round: int, checkpoints: Iterable[int]) -> set[int]:
    """Those of a client's rounds that it may still be asked for.

    Args:
        kept: the rounds after which it kept its state, this one and others.
        server_round: the round that is played; it may have to be played again.
        checkpoints: where the server may be resumed.

    Returns:
        This round, and the last one before it and before each round that may follow a checkpoint.
    """
    wanted = {server_round}
    for end in (server_round - 1, *checkpoints):
        wanted |= set(sorted(number for number in kept if number <= end)[-1:])
    return wanted
