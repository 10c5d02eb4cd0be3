"""Clients that no node names are played in turn by the nodes that are there: two SuperNodes can play ten clients.

This is only so if the settings divide the data: then any node can play any client, as each message names its client.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence


def who_plays(
    clients: Sequence[int], players: Sequence[int], before: Mapping[int, int], owners: Iterable[int]
) -> dict[int, int]:
    """Client -> node id, at the beginning of a run, when it is resumed, and after nodes have come or gone.

    Args:
        clients: those that no node names, ascending.
        players: node ids. If there are none, all stays as it was: a node that comes back goes on with what it kept.
        before: which node played each client; empty at the beginning.
        owners: the nodes that name a client, one entry for each such client.
    """
    if not players:
        return dict(before)
    return dealt_again(clients, players, before, owners) if before else dealt(clients, players)


def dealt(clients: Iterable[int], players: Sequence[int]) -> dict[int, int]:
    """Client -> node id, before the first round: client p goes to player p modulo the number of players."""
    return {client: players[client % len(players)] for client in clients}


def dealt_again(
    clients: Sequence[int], players: Sequence[int], before: Mapping[int, int], owners: Iterable[int]
) -> dict[int, int]:
    """Client -> node id after nodes have come or gone; a client moves only where it must.

    A client whose player is gone goes to the player with the fewest clients. Then clients move from the player with the
    most to the one with the fewest, as to one that has come, until these numbers differ by one at most.

    Args:
        clients: those that no node names, ascending.
        players: node ids, one at least; of players with equally many clients the first is chosen.
        before: which node played each client.
        owners: the nodes that name a client, one entry for each such client; it counts among the node's clients.
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
