"""A run that is killed (SIGKILL) at any moment and resumed, again and again, ends with the bits of one that was not.

The processes that are killed are forked off a server that has imported everything: what is killed is the run.
"""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fedhpro_flwr.cli import main
from fedhpro_flwr.runs.run_folder import read_rounds

pytestmark = pytest.mark.simulation
ROOT = Path(__file__).resolve().parents[2]
SMALL = {
    "rounds": 6,
    "partition.num-partitions": 4,
    "data.train-limit": 240,
    "local.epochs": 1,
    "model.name": "mlp",
    "model.width": 8,
    "hyper-prototypes.matching-steps": 2,
}
VARIANTS = {  # with states of their own at the clients, which go on from where the server goes on
    "scaffold, half of the clients": {"method.name": "scaffold", "clients.per-round": 2, "checkpoint.every": 2},
    "moon, drawn from a stream": {"method.name": "moon", "clients.per-round": 3, "clients.sampling": "stream"},
    "heads alone travel": {"model.share": "head", "calibration.head": "replace", "evaluation.every": 2},
}
FORKED = multiprocessing.get_context("forkserver")
FORKED.set_forkserver_preload(["fedhpro_flwr.cli", "server_app.app", "client_app.app", "sklearn.datasets"])


def work(arguments):
    """The process that is killed."""
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere), contextlib.redirect_stderr(nowhere):
        status = main(arguments)
    sys.exit(status)


def arguments_of(folder, settings):
    """To begin the run, or to go on with it."""
    flags = [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]
    begun = (folder / "config.toml").exists()
    chosen = ["--resume", str(folder)] if begun else [*flags, "--set", f"run-folder={folder}"]
    return ["run", *chosen, "--engine", "in-process"]


def played(folder, settings, rounds=None, seconds=0.0):
    """Whether a run ended before it was killed: so many seconds after so many new rounds; None to let it end."""
    known = len(read_rounds(folder))
    process = FORKED.Process(target=work, args=(arguments_of(folder, settings),))
    process.start()
    if rounds is not None:
        while process.exitcode is None and len(read_rounds(folder)) < known + rounds:
            time.sleep(0.001)
        process.join(seconds)
        process.kill()
    process.join()
    assert process.exitcode in (0, -signal.SIGKILL), (folder / "failure.txt").read_text()
    return process.exitcode == 0


def without_seconds(value):
    if isinstance(value, dict):
        return {key: without_seconds(inner) for key, inner in value.items() if "seconds" not in key}
    return [without_seconds(inner) for inner in value] if isinstance(value, list) else value


def outcome(folder):
    """What a run leaves, as far as it may not differ."""
    files = {path.name: path.read_bytes() for path in folder.glob("*.safetensors")}
    summary = json.loads((folder / "summary.json").read_text())
    return files | {"rounds": without_seconds(read_rounds(folder)), "summary": without_seconds(summary)}


def survived(tmp_path, settings, kills, seed):
    """Run, kill and resume until so many kills were dealt; every run that comes to its end is compared."""
    settings = SMALL | settings
    played(tmp_path / "whole", settings)
    expected = outcome(tmp_path / "whole")
    draw, dealt, ended = random.Random(seed), 0, 0
    while dealt < kills:
        folder, over = tmp_path / f"killed-{ended}", False
        while not over:
            # A round takes some 0.1 seconds here, a start with what comes before its first round some 0.5.
            rounds = draw.randrange(3) if dealt < kills else None  # the last attempt is left to its end
            over = played(folder, settings, rounds, draw.uniform(0, 0.15 if rounds else 0.8))
            dealt += not over
        ended += 1
        assert outcome(folder) == expected
        assert not list(folder.rglob("*.part"))


def test_twenty_kills_of_fedhpro_change_nothing(tmp_path):
    survived(tmp_path, {}, kills=20, seed=0)


@pytest.mark.parametrize("name", VARIANTS)
def test_kills_change_nothing_where_clients_keep_something(name, tmp_path):
    survived(tmp_path, VARIANTS[name], kills=5, seed=1)


def test_the_command_itself_killed_and_resumed(tmp_path):
    """The same in a process of its own, killed once its second round is written."""
    settings = SMALL | {"method.name": "fedavg", "rounds": 12}
    command = [sys.executable, "-m", "fedhpro_flwr.cli"]
    process = subprocess.Popen(
        [*command, *arguments_of(tmp_path / "killed", settings)],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 120
        while len(read_rounds(tmp_path / "killed")) < 2 and time.monotonic() < deadline:
            time.sleep(0.002)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert 2 <= len(read_rounds(tmp_path / "killed")) < 12
    assert not (tmp_path / "killed" / "summary.json").exists()
    assert main(arguments_of(tmp_path / "killed", settings)) == 0
    assert main(arguments_of(tmp_path / "whole", settings)) == 0
    assert outcome(tmp_path / "killed") == outcome(tmp_path / "whole")
