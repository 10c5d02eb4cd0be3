"""Nodes of a real cluster die, come back under another id, and hang: the run goes on and takes their clients up."""

from __future__ import annotations

import pytest
from cluster import Cluster
from member import until

from fedhpro_flwr.runs.run_folder import FAILURE_FILE, read_rounds
from fedhpro_flwr.settings.from_command_line import prepare

pytestmark = pytest.mark.simulation
ROUNDS = 10  # seven to eight are enough: the rest is for a machine so slow that an answer comes a round later
SMALL = {
    "rounds": ROUNDS,
    "partition.num-partitions": 3,
    "data.train-limit": 240,
    "local.epochs": 1,
    "model.name": "mlp",
    "model.width": 8,
    "hyper-prototypes.matching-steps": 2,
    "clients.num-nodes": 3,
    "clients.quorum": 0.3,
    "clients.timeout": 45,
}


def test_a_node_that_is_killed_and_one_that_hangs_take_part_again(tmp_path):
    folder = tmp_path / "run"
    changes = SMALL | {"run-folder": str(folder), "clients.state-path": str(tmp_path / "state")}
    settings = prepare(None, [f"{key}={value}" for key, value in changes.items()]).flat()

    def played(rounds: int) -> bool:
        return len(read_rounds(folder)) >= rounds

    with Cluster(tmp_path / "cluster") as cluster:
        cluster.superlink()
        nodes = [cluster.supernode(partition) for partition in range(3)]
        run_id = cluster.submit(settings)
        until(lambda: played(1) or (folder / FAILURE_FILE).exists(), "round 1", 240)
        assert played(1), cluster.keep_log(run_id) + cluster.logs()
        nodes[1].kill()  # while round 2 is played
        again = cluster.supernode(1)
        assert again.node_id() != nodes[1].node_id()
        until(lambda: played(2), "round 2")
        until(lambda: len(read_rounds(folder)[-1]["clients"]) == 3, "client 1 is back")
        before = len(read_rounds(folder))
        nodes[2].hang()
        until(lambda: played(before + 1), "the round that node 2 hangs in")
        nodes[2].go_on()
        status = cluster.wait(run_id)
        said = cluster.keep_log(run_id) + cluster.logs()

    assert status == 0, said
    rounds = read_rounds(folder)
    took_part = [[client["partition-id"] for client in line["clients"]] for line in rounds]
    assert len(rounds) == ROUNDS
    assert took_part[0] == took_part[-1] == [0, 1, 2], said
    assert any(1 not in clients for clients in took_part) and any(2 not in clients for clients in took_part), said
    assert f"client 1 is back, as node {again.node_id()}" in said
    assert "client 2: did not reply" in str(rounds), said
