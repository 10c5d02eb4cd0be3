"""Which nodes play the clients, updated before every round: nodes leave, come back under another id, and join late.

A client is played by the node that names it (its partition-id). A Flower node that restarts without an authentication
key is a new node to the SuperLink, with a new id: it is asked who it is, and takes its client up again.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from logging import INFO, WARNING

from flwr.app import RecordDict
from flwr.common.logger import log
from flwr.serverapp import Grid

from fedhpro_flwr.config import ConfigError, RunConfig
from fedhpro_flwr.introduction import UNNAMED, Introduction
from fedhpro_flwr.listed import listed
from fedhpro_flwr.records import CONFIG, Task, pack_task
from fedhpro_flwr.runs.checkpoint import RunSoFar
from fedhpro_flwr.seeding import sample_partitions
from fedhpro_flwr.server.attendance import Attendance
from fedhpro_flwr.server.seats import Seats
from fedhpro_flwr.server.stand_ins import who_plays
from fedhpro_flwr.server.unanswered import Unanswered

PAUSE_SECONDS = 120.0  # longest pause between two attempts at a round: a machine restarts in less
POLL_SECONDS = 1.0
GONE = "its node is gone"
NOT_HERE = -1  # stands for the node of a client that no node names now, though one did before


class Roster:
    """The nodes of a run, and which clients they play.

    Args:
        grid: to ask through.
        config: the settings, which the nodes are told: each builds its model and loads its data once.
        so_far: the run as it begins or is resumed: what clients kept is at the nodes that played them.
        width: D of the server's head.
    """

    def __init__(self, grid: Grid, config: RunConfig, so_far: RunSoFar, width: int) -> None:
        self.unanswered = Unanswered(grid)
        self._config = config
        settings = pack_task(config.flat(), Task(0, UNNAMED, run=so_far.run))
        self._attendance = Attendance(grid, RecordDict({CONFIG: settings}), width)
        self._clients = config.partition.num_partitions
        self._own_data = config.partition.at_nodes  # then no node can stand in for another
        self._architectures = config.model.architectures(self._clients)  # at first as the run's groups say
        # client -> the node that names it, or the last one that did
        self._owners: dict[int, int] = dict.fromkeys(so_far.named, NOT_HERE)
        self.stand_ins: dict[int, int] = dict(so_far.stand_ins)  # client that no node names -> node id
        self._players: list[int] = []

    def begin(self, timeout: float) -> None:
        """Before the first round: wait for the nodes and ask each who it is and whether it could train.

        Raises:
            ConfigError: too few nodes, none that could train, a node that runs other code, two nodes with one
                partition, two clients whose features have different widths, or, where nodes bring the data, none that
                names a client.
        """
        introduced = self._attendance.begin(self._config.clients.num_nodes, timeout)
        self._owners |= {
            node.partition_id: node.node_id for node in introduced if 0 <= node.partition_id < self._clients
        }
        if self._own_data and not self._owners:
            raise ConfigError("partition.scheme = 'nodes': no node names its client; give each a partition-id")
        for client, node_id in sorted(self._owners.items()):
            if node_id == NOT_HERE:
                log(WARNING, "client %d: its node has not come back; no other one has what the client kept", client)
            else:
                log(INFO, "client %d: node %d", client, node_id)
        for node in introduced:
            self._note_architecture(node)
        self._players = self._in_turn()
        missing = self._without_node()
        if missing and self._own_data:
            log(
                WARNING,
                "no node names %s: not drawn, nor counted in the quorum, until one does",
                listed("client", missing),
            )
        elif missing:
            log(INFO, "no node names %s: the nodes that are there play them in turn", listed("client", missing))
            self._deal(missing)

    def update(self, timeout: float, failed: Iterable[int] = ()) -> None:
        """Before a round: find out which nodes have gone, have come, or are another client's now.

        Args:
            timeout: seconds after which a question to a node counts as lost.
            failed: clients that answered with an error. Asked again, unless at work, are their nodes, nodes that play
                nobody (or stand in, while a named client has no node), and a node whose client such an idle node names
                too. Overdue nodes are asked in any case.
        """
        self.unanswered.look()
        before = self._played()
        # Those that stand in may be the node of a client that is missing; else they are not asked: it would delay them.
        missing = set(self._owners.values()) - self._known.keys()
        idle = self._known.keys() - set(self._owners.values()) - (set() if missing else set(self.stand_ins.values()))
        # If two nodes name one client, the one that plays it may have become another's by a restart, and never fail.
        held = (self._owners.get(self._known[node_id].partition_id, NOT_HERE) for node_id in idle)
        doubted = idle.union(map(self._node_of, failed), held) - self.unanswered.busy.keys()
        self._note(self._attendance.update(timeout, doubted | self.unanswered.overdue()))
        self.unanswered.free(self._attendance.heard)
        self._tell(before)
        if not self._own_data and (players := self._in_turn()) != self._players:
            self._players = players
            self._deal(self._without_node())

    def _deal(self, clients: Sequence[int]) -> None:
        """Decide anew which nodes play the `clients`, which no node names; log which clients moved to another one."""
        before = self.stand_ins
        self.stand_ins = who_plays(clients, self._players, before, self._owners.values())
        moved = [client for client, node_id in self.stand_ins.items() if before and before.get(client) != node_id]
        if moved:
            log(INFO, "%s: another node plays them from now on, without what they kept", listed("client", moved))

    def draw(self, server_round: int) -> Seats:
        """The clients of a round; if nodes bring the data, they are drawn among those that a node has named so far."""
        clients = self._config.clients
        drawn = sample_partitions(
            self._clients, clients.per_round,
            seed=self._config.seed, server_round=server_round, sampling=clients.sampling, among=self._drawable,
        )  # fmt: skip
        return self._seats(drawn)

    @property
    def named(self) -> tuple[int, ...]:
        """The clients that a node has named as its own, whether it is there or not."""
        return tuple(sorted(self._owners))

    @property
    def everybody(self) -> Seats:
        """All clients that could be drawn."""
        return self._seats(self._drawable)

    def _seats(self, drawn: Iterable[int]) -> Seats:
        """Which of the drawn clients can be asked, at which node, and why the others cannot."""
        nodes: dict[int, int] = {}
        absent: dict[int, str] = {}
        for client in drawn:
            if (reason := self._absence(client)) is not None:
                absent[client] = reason
            else:
                nodes[client] = self._node_of(client)
        return Seats(nodes, absent)

    def _node_of(self, client: int) -> int:
        """The node that plays a client: its own, or the one that stands in if none has named it."""
        return self._owners.get(client, self.stand_ins.get(client, NOT_HERE))

    def pause(self, clients: Iterable[int], timeout: float) -> None:
        """Before a round is repeated: wait until all its clients can be asked, for PAUSE_SECONDS at most; or longer, so
        that every node that has not answered yet can become overdue and then has a `timeout` to say who it is."""
        wanted = list(clients)
        deadline = max(time.monotonic() + PAUSE_SECONDS, self.unanswered.until(map(self._node_of, wanted)) + timeout)
        while True:
            self.update(timeout)
            if not self._seats(wanted).absent or time.monotonic() >= deadline:
                return
            time.sleep(POLL_SECONDS)

    @property
    def _known(self) -> Mapping[int, Introduction]:
        return self._attendance.known

    @property
    def _drawable(self) -> list[int]:
        return sorted(self._owners) if self._own_data else list(range(self._clients))

    @property
    def architectures(self) -> Sequence[str]:
        """The architecture of each client [N]: as the run's groups say, unless its node says another."""
        return tuple(self._architectures)

    def _note(self, news: Sequence[Introduction]) -> None:
        """Take in what nodes say of themselves during the run."""
        says = {node.node_id: node.partition_id for node in news}
        for client, node_id in self._owners.items():
            if (now := says.get(node_id, client)) != client:
                named = "names no client" if now == UNNAMED else f"says partition-id = {now}"
                log(WARNING, "node %d played client %d and %s now", node_id, client, named)
                self._owners[client] = NOT_HERE
        for node in news:
            self._note_architecture(node)  # if the node plays its client already
            client = node.partition_id
            if self._owners.get(client) in self._known and self._owners[client] != node.node_id:
                log(
                    WARNING,
                    "node %d says partition-id = %d as node %d does: it is set aside for as long as that one is there",
                    node.node_id, client, self._owners[client],
                )  # fmt: skip

    def _note_architecture(self, node: Introduction) -> None:
        if node.architecture and self._owners.get(node.partition_id) == node.node_id:
            self._architectures[node.partition_id] = node.architecture

    def _tell(self, before: Mapping[int, int]) -> None:
        """Give the clients without a node to the nodes that name them, and log what has changed."""
        named = set(self._owners)
        for node_id, node in sorted(self._known.items()):
            client = node.partition_id
            if 0 <= client < self._clients and self._owners.get(client) not in self._known:
                self._owners[client] = node_id
                self._note_architecture(node)
        now = self._played()
        for client, node_id in now.items():
            if before.get(client) != node_id:
                log(INFO, "client %d %s, as node %d", client, "is back" if client in named else "joined", node_id)
        for client in sorted(before.keys() - now.keys()):
            log(WARNING, "client %d: node %d is gone", client, before[client])

    def _played(self) -> dict[int, int]:
        """The clients whose own node is there, with that node."""
        return {client: node_id for client, node_id in sorted(self._owners.items()) if node_id in self._known}

    def _absence(self, client: int) -> str | None:
        """Why a client cannot be asked; None if it can."""
        node_id = self._node_of(client)
        if node_id in self._known:
            return self.unanswered.busy.get(node_id)
        return self._attendance.problem_of(client) or (GONE if client in self._owners else "no node plays it")

    def _without_node(self) -> list[int]:
        return [client for client in range(self._clients) if client not in self._owners]

    def _in_turn(self) -> list[int]:
        """The nodes that stand in, in turn: those that name a client (no two the same) by its number, then the rest."""
        named = {node.node_id: node.partition_id for node in self._known.values() if node.partition_id != UNNAMED}
        seconds = {node_id for node_id, client in named.items() if self._owners.get(client, node_id) != node_id}
        rest = sorted(self._known.keys() - named.keys())
        return sorted(named.keys() - seconds, key=named.__getitem__) + rest
