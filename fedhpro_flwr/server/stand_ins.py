"""Clients that no node names are played by the nodes there are, in turn: ten clients work on two SuperNodes too.

Only where the settings divide the data: then every node can play every client, as each message names its client.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence


def who_plays(
    clients: Sequence[int], players: Sequence[int], before: Mapping[int, int], owners: Iterable[int]
) -> dict[int, int]:
    """Client -> node id, at the beginning of a run, when it goes on, and after nodes have come or gone.

    Args:
        clients: those that no node names, ascending.
        players: node ids. With none of them all stays as it was: whoever comes back goes on with what it kept.
        before: who played whom; empty at the beginning.
        owners: the node of each client that one names.
    """
    if not players:
        return dict(before)
    return dealt_again(clients, players, before, owners) if before else dealt(clients, players)


def dealt(clients: Iterable[int], players: Sequence[int]) -> dict[int, int]:
    """Client -> node id, before the first round: client p to player p modulo their number."""
    return {client: players[client % len(players)] for client in clients}


def dealt_again(
    clients: Sequence[int], players: Sequence[int], before: Mapping[int, int], owners: Iterable[int]
) -> dict[int, int]:
    """Client -> node id after nodes have come or gone; a client moves only where it must.

    A client whose player is gone goes to the player with the fewest clients. A player that has come takes clients from
    the one with the most, until none has two more than another.

    Args:
        clients: those that no node names, ascending.
        players: node ids, one at least, the first ones first among equals.
        before: who played whom.
        owners: the node of each client that one names, which is a client of its own for it.
    """
    now = {client: before[client] for client in clients if before.get(client) in players}
    load = Counter({player: 0 for player in players})
    load.update(player for player in (*now.values(), *owners) if player in load)
    for client in clients:
        if client not in now:
            now[client] = min(players, key=load.__getitem__)
            load[now[client]] += 1
    while True:
        least = min(players, key=load.__getitem__)
        most = max(now, key=lambda client: (load[now[client]], client), default=None)
        if most is None or load[now[most]] - load[least] < 2:
            return dict(sorted(now.items()))
        load[now[most]] -= 1
        now[most] = least
        load[least] += 1
