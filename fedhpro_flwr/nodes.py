"""Which node plays which client: nodes introduce themselves once, from then on the server speaks of partitions."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from logging import WARNING

from flwr.app import ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.common.logger import log
from flwr.serverapp import Grid

from fedhpro_flwr.config import ConfigError, RunConfig
from fedhpro_flwr.engine import code_fingerprint
from fedhpro_flwr.records import CONFIG, METRICS, Task, error_reason, numbers_of, pack_task, scalars

POLL_SECONDS = 0.2
UNNAMED = -1  # partition id of a node that was given none


@dataclass(frozen=True)
class Introduction:
    """What a node says of itself before round 1."""

    node_id: int
    partition_id: int  # UNNAMED if it was given none
    code: str  # fingerprint of its sources
    architecture: str = ""
    width: int = 0  # D of its model; 0 where it does not know yet which client it plays
    problem: str = ""  # why it could not train now, if so

    @property
    def name(self) -> str:
        """For a sentence."""
        who = f"node {self.node_id}" if self.partition_id == UNNAMED else f"client {self.partition_id}"
        return who + (f" ({self.architecture})" if self.architecture else "")

    def pack(self) -> RecordDict:
        """The content of the reply."""
        numbers = MetricRecord({"partition-id": self.partition_id, "width": self.width})
        texts = ConfigRecord({"code": self.code, "model": self.architecture, "problem": self.problem})
        return RecordDict({METRICS: numbers, CONFIG: texts})

    @classmethod
    def unpack(cls, reply: Message) -> Introduction:
        """The inverse.

        Raises:
            ValueError: the reply is no introduction.
        """
        node = reply.metadata.src_node_id
        try:
            numbers = numbers_of(reply.content.metric_records[METRICS])
            texts = scalars(reply.content.config_records[CONFIG])
            return cls(
                node_id=node,
                partition_id=max(int(numbers["partition-id"]), UNNAMED),
                code=str(texts["code"]),
                architecture=str(texts.get("model", "")),
                width=int(numbers.get("width", 0)),
                problem=str(texts.get("problem", "")),
            )
        except (KeyError, ValueError, OverflowError) as error:
            raise ValueError(f"node {node}: its answer is no introduction ({error})") from None


def own_partition(context: Context) -> int:
    """The partition that a node's config gives it; UNNAMED if none, or a negative one."""
    return max(int(context.node_config.get("partition-id", UNNAMED)), UNNAMED)


@dataclass(frozen=True)
class Players:
    """Who plays the clients."""

    nodes: Mapping[int, int]  # partition id -> node id
    architectures: Sequence[str]  # of each client [N]: the run's groups, unless a node brings its own


def introductions(grid: Grid, config: RunConfig, run: str, width: int, timeout: float) -> Players:
    """Who plays the clients, after asking every node who it is and whether it could train.

    A node that names a partition plays it. Partitions without a node of their own are played by the others in turn, so
    a run of 10 clients works on 2 SuperNodes too (each message names the partition it is for).

    Args:
        grid: to ask through.
        config: the settings, which the nodes are told: each builds its model and loads its data once.
        run: the run's name.
        width: D of the server's head.
        timeout: seconds to wait for nodes and for their answers.

    Raises:
        ConfigError: too few nodes, none that could train, a node that runs other code, two nodes with one partition, or
            two clients whose features have different widths.
    """
    node_ids = wait_for_nodes(grid, config.clients.num_nodes, timeout)
    settings = RecordDict({CONFIG: pack_task(config.flat(), Task(0, UNNAMED, run=run))})
    asked = [Message(settings, dst_node_id=node_id, message_type="query") for node_id in node_ids]
    present: list[Introduction] = []
    problems: list[str] = []
    for reply in grid.send_and_receive(asked, timeout=timeout):
        try:
            if reply.has_error():
                raise ValueError(error_reason(reply))
            present.append(Introduction.unpack(reply))
        except ValueError as error:
            problems.append(str(error))
    ready = [node for node in present if not node.problem]
    problems += [node.problem for node in present if node.problem]
    if not ready:
        raise ConfigError(f"no node introduced itself: {problems[0] if problems else f'no answer in {timeout:.0f} s'}")
    for problem in problems:
        # Its client stays with it, set aside by name in every round that it cannot train: no other node has its data.
        log(WARNING, "not ready to train: %s", problem)
    for node in present:
        if node.code != code_fingerprint():
            raise ConfigError(
                f"node {node.node_id} runs other code ({node.code}) than the server ({code_fingerprint()})"
            )
    check_widths(present, width)
    named: dict[int, int] = {}
    for node in present:
        if node.partition_id in named:
            raise ConfigError(
                f"nodes {named[node.partition_id]} and {node.node_id} both say partition-id = {node.partition_id}; "
                "give each its own"
            )
        if node.partition_id != UNNAMED:
            named[node.partition_id] = node.node_id
    unnamed = sorted(node.node_id for node in present if node.partition_id == UNNAMED)
    clients = config.partition.num_partitions
    brought = {node.partition_id: node.architecture for node in present if node.architecture}
    architectures = [brought.get(client, name) for client, name in enumerate(config.model.architectures(clients))]
    return Players(assign(clients, named, unnamed), architectures)


def check_widths(nodes: Iterable[Introduction], width: int) -> None:
    """All clients' features must have the width of the server's head, which they share.

    Raises:
        ConfigError: two widths; the message names a client of each.
    """
    known = sorted((node for node in nodes if node.width), key=lambda node: node.partition_id)
    fitting = next((node.name for node in known if node.width == width), "")
    for node in known:
        if node.width != width:
            other = f"{fitting} and the server's head" if fitting else "the server's head"
            raise ConfigError(
                f"{node.name} has features of width {node.width}, {other} of width {width}; "
                "give every model the same width (model.width)"
            )


def assign(num_partitions: int, named: Mapping[int, int], unnamed: Sequence[int]) -> dict[int, int]:
    """Partition id -> node id: its own node first, the rest in turn."""
    players = [named[partition_id] for partition_id in sorted(named)] + list(unnamed)
    return {partition: named.get(partition, players[partition % len(players)]) for partition in range(num_partitions)}


def wait_for_nodes(grid: Grid, num_nodes: int, timeout: float) -> list[int]:
    """Node ids, once there are `num_nodes` of them (0: once there are some and no more appear).

    Raises:
        ConfigError: they did not come in time.
    """
    deadline = time.monotonic() + timeout
    before: list[int] = []
    while True:
        present = sorted(grid.get_node_ids())
        if present and (len(present) >= num_nodes if num_nodes else present == before):
            return present
        if time.monotonic() > deadline:
            raise ConfigError(
                f"{len(present)} nodes after {timeout:.0f} s, clients.num-nodes = {max(num_nodes, 1)} are needed"
            )
        before = present
        time.sleep(POLL_SECONDS)
