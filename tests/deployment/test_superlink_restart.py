"""The command is killed, then the SuperLink, then the ServerApp: the run goes on, to the bits of an undisturbed one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from cluster import CONNECTION, Cluster
from member import marked, until

from client_app.app import app as client_app
from fedhpro_flwr.launch.in_process import run_in_process
from fedhpro_flwr.runs.run_folder import read_rounds
from fedhpro_flwr.settings.from_command_line import prepare
from server_app.app import app as server_app

pytestmark = pytest.mark.simulation
ROOT = Path(__file__).resolve().parents[2]
SMALL = {
    "rounds": 5,
    "partition.num-partitions": 2,
    "clients.num-nodes": 2,
    "data.train-limit": 160,
    "local.epochs": 1,
    "model.name": "mlp",
    "model.width": 8,
    "hyper-prototypes.matching-steps": 3,
    "evaluation.clients-every": 2,
}
SECONDS = 600.0  # for what takes a minute or two on an idle machine, and ten times as long on a busy one


def changes(folder: Path) -> list[str]:
    """`key=value` of a run in a folder."""
    return [f"{key}={value}" for key, value in {**SMALL, "run-folder": folder}.items()]


def outcome(folder: Path) -> dict:
    """What a run leaves, without what a clock measured."""
    lines = [
        {key: value for key, value in line.items() if "seconds" not in key}
        | {"clients": [{k: v for k, v in client.items() if "seconds" not in k} for client in line["clients"]]}
        for line in read_rounds(folder)
    ]
    return {path.name: path.read_bytes() for path in folder.glob("*.safetensors")} | {"lines": lines}


def serverapp(mark: str) -> int:
    """The ServerApp among a member's processes."""
    (found,) = [
        pid for pid in marked(mark) if b"flwr-serverapp" in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[1]
    ]
    return found


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> dict:
    """Of a run that nothing befell, in the in-process engine."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    run_in_process(server_app, client_app, 2, prepare(None, changes(folder)).flat())
    return outcome(folder)


def test_a_killed_command_superlink_and_serverapp_cost_only_time(tmp_path, whole):
    folder, home = tmp_path / "results" / "run", tmp_path / "cluster"
    with Cluster(home, environment={"OMP_NUM_THREADS": "1"}) as cluster:
        database = tmp_path / "state.db"
        superlink = cluster.superlink(database=database)
        for partition in range(2):
            cluster.supernode(partition)

        def run(*arguments: str | Path) -> subprocess.Popen[bytes]:
            with (tmp_path / "said").open("a") as said:
                return subprocess.Popen(
                    [sys.executable, "-m", "fedhpro_flwr.cli", "run", *arguments, "--superlink", CONNECTION],
                    cwd=tmp_path,
                    env=os.environ | {"PYTHONPATH": str(ROOT), "FLWR_HOME": str(home)},
                    stdout=said,
                    stderr=subprocess.STDOUT,
                )

        command = run(*[word for change in changes(folder) for word in ("--set", change)])
        try:

            def told() -> str:
                return (tmp_path / "said").read_text()

            def rounds(number: int) -> None:
                until(lambda: len(read_rounds(folder)) >= number or command.poll() is not None, told(), SECONDS)
                assert command.poll() is None, told() + cluster.logs()

            rounds(1)
            command.kill()
            command.wait()
            command = run("--resume", folder)
            until(lambda: f"on {CONNECTION} goes on, 5 rounds" in told() or command.poll() is not None, told(), SECONDS)
            orphan = serverapp(superlink.mark)
            superlink.process.kill()  # alone: what it has started is not told
            superlink.process.wait()
            until(lambda: "waiting for it" in told(), "the command notices", SECONDS)
            played = len(read_rounds(folder))
            again = cluster.superlink(database=database)
            until(lambda: told().count("it goes on from its last checkpoint") == 1, "submitted again", SECONDS)
            # The orphan holds the run's folder until it has heard from the new SuperLink that its run is over.
            until(lambda: orphan not in superlink.pids(), "the orphaned ServerApp ends", SECONDS)
            rounds(played + 1)
            os.kill(serverapp(again.mark), signal.SIGKILL)
            assert command.wait(SECONDS) == 0, told() + cluster.logs()
        finally:
            command.kill()
            command.wait()
    assert told().count("it goes on from its last checkpoint") == 2
    assert json.loads((folder / "summary.json").read_text())["accuracy"]["last"] > 0
    assert outcome(folder) == whole
