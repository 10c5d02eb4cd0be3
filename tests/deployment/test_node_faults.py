"""Nodes of a real cluster die, come back under another id, and hang: the run goes on and takes their clients up."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from cluster import CONNECTION, Cluster
from member import until

from fedhpro_flwr.runs.run_folder import FAILURE_FILE, read_rounds
from fedhpro_flwr.settings.from_command_line import prepare

pytestmark = pytest.mark.simulation
SMALL = {
    "rounds": 1000,  # it is stopped when everything has been seen
    "partition.num-partitions": 2,
    "data.train-limit": 160,
    "local.epochs": 1,
    "model.name": "mlp",
    "model.width": 8,
    "hyper-prototypes.matching-steps": 2,
    "clients.num-nodes": 2,
    "clients.quorum": 0.5,
    "clients.timeout": 45,
}


def test_a_node_that_is_killed_and_one_that_hangs_take_part_again(tmp_path):
    folder = tmp_path / "run"
    changes = SMALL | {"run-folder": str(folder), "clients.state-path": str(tmp_path / "state")}
    settings = prepare(None, [f"{key}={value}" for key, value in changes.items()]).flat()

    def took_part() -> list[list[int]]:
        return [[client["partition-id"] for client in line["clients"]] for line in read_rounds(folder)]

    with Cluster(tmp_path / "cluster") as cluster:

        def until_a_round(is_played: Callable[[list[int]], bool], what: str) -> None:
            """Wait for one after those that have been played."""
            before = len(took_part())
            until(lambda: any(map(is_played, took_part()[before:])) or (folder / FAILURE_FILE).exists(), what)
            assert not (folder / FAILURE_FILE).exists(), cluster.keep_log(run_id) + cluster.logs()

        cluster.superlink()
        first, killed = (cluster.supernode(partition) for partition in range(2))
        run_id = cluster.submit(settings)
        until_a_round(lambda clients: clients == [0, 1], "both take part")
        killed.kill()  # while the next round is played
        again = cluster.supernode(1)
        assert again.node_id() != killed.node_id()
        until_a_round(lambda clients: clients == [0], "a round without the node that was killed")
        until_a_round(lambda clients: clients == [0, 1], "client 1 is back")
        first.hang()
        until_a_round(lambda clients: clients == [1], "a round without the node that hangs")
        first.go_on()
        until_a_round(lambda clients: clients == [0, 1], "client 0 is back")
        said = cluster.keep_log(run_id)
        cluster.flwr("stop", run_id, CONNECTION)

    assert f"client 1 is back, as node {again.node_id()}" in said
    assert "client 0: did not reply" in str(read_rounds(folder)), said
