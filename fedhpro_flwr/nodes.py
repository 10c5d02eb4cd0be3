"""Which node plays which client: nodes introduce themselves once, from then on the server speaks of partitions."""

from __future__ import annotations

import time
from collections.abc import Mapping

from flwr.app import Message, RecordDict
from flwr.serverapp import Grid

from fedhpro_flwr.config import ConfigError
from fedhpro_flwr.engine import code_fingerprint
from fedhpro_flwr.records import CONFIG, METRICS, error_reason, numbers_of, scalars

POLL_SECONDS = 0.2


def introductions(grid: Grid, num_partitions: int, *, num_nodes: int, timeout: float) -> dict[int, int]:
    """Partition id -> node id, after asking every node who it is.

    A node that names a partition plays it. Partitions without a node of their own are played by the others in turn, so
    a run of 10 clients works on 2 SuperNodes too (each message names the partition it is for).

    Args:
        grid: to ask through.
        num_partitions: clients of the run.
        num_nodes: wait until so many nodes are there; 0 = until no more appear.
        timeout: seconds to wait for nodes and for their answers.

    Raises:
        ConfigError: too few nodes, a node that runs other code, or two nodes with one partition.
    """
    node_ids = wait_for_nodes(grid, num_nodes, timeout)
    asked = [Message(RecordDict(), dst_node_id=node_id, message_type="query") for node_id in node_ids]
    named: dict[int, int] = {}
    unnamed: list[int] = []
    failures: list[str] = []
    for reply in grid.send_and_receive(asked, timeout=timeout):
        if reply.has_error():
            failures.append(error_reason(reply))
            continue
        node_id = reply.metadata.src_node_id
        partition_id = int(numbers_of(reply.content.metric_records[METRICS])["partition-id"])
        code = scalars(reply.content.config_records[CONFIG])["code"]
        if code != code_fingerprint():
            raise ConfigError(f"node {node_id} runs other code ({code}) than the server ({code_fingerprint()})")
        if partition_id in named:
            raise ConfigError(
                f"nodes {named[partition_id]} and {node_id} both say partition-id = {partition_id}; give each its own"
            )
        if partition_id < 0:
            unnamed.append(node_id)
        else:
            named[partition_id] = node_id
    if not named and not unnamed:
        raise ConfigError(f"no node introduced itself: {failures[0] if failures else f'no answer in {timeout:.0f} s'}")
    return assign(num_partitions, named, sorted(unnamed))


def assign(num_partitions: int, named: Mapping[int, int], unnamed: list[int]) -> dict[int, int]:
    """Partition id -> node id: its own node first, the rest in turn."""
    players = [named[partition_id] for partition_id in sorted(named)] + unnamed
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
