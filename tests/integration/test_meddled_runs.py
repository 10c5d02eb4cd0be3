"""Whole runs in one process with a client that names things oddly, lies, goes away, or runs whose server is killed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from flwr.app import Array, ArrayRecord, Error, Message

from client_app.app import app as client_app
from fedhpro_flwr.launch.in_process import run_in_process
from fedhpro_flwr.runs.closing import closing
from fedhpro_flwr.runs.run_folder import read_rounds
from fedhpro_flwr.server.replies import QuorumError
from fedhpro_flwr.settings.from_command_line import prepare
from server_app.app import app as server_app

CLIENTS = 3
SMALL = {
    "partition.num-partitions": CLIENTS,
    "data.train-limit": 120,
    "local.epochs": 1,
    "model.name": "mlp",
    "model.width": 8,
    "hyper-prototypes.matching-steps": 2,
}
EVIL = "$\\frac{$ [/b]"


class Killed(BaseException):
    """As the server process ends with SIGKILL: nothing of it goes on."""


def play(folder: Path, app=client_app, **changes) -> None:
    resume = {"resume": str(folder)} if folder.exists() else {}
    settings = SMALL | {"run-folder": str(folder)} | {key.replace("__", "."): value for key, value in changes.items()}
    flags = [f"{key.replace('_', '-')}={value}" for key, value in (settings | resume).items()]
    run_in_process(server_app, app, CLIENTS, prepare(None, flags).flat())


def meddling(change):
    """The clients of a run, with `change(round, client, message, work)` for what `work()` would reply to a round."""

    def app(message, context):
        def work():
            return client_app(message, context)

        if message.metadata.message_type != "train":
            return work()
        task = message.content.config_records["config"]
        return change(int(task["task.server-round"]), int(task["task.partition-id"]), message, work)

    return app


@pytest.mark.parametrize("sends_more", [True, False])
def test_what_a_client_calls_its_records_and_phases_ends_no_run(sends_more, tmp_path, pictures):
    def evil(server_round, client, message, work):
        reply = work()
        if client == 0:
            reply.content.metric_records["metrics"][f"seconds-{EVIL}"] = 1.0
            if sends_more:
                reply.content[EVIL] = ArrayRecord({"a": Array(torch.zeros(3).numpy())})
        return reply

    folder = tmp_path / "run"
    play(folder, meddling(evil), rounds=2, clients__quorum=0.5)
    for line in read_rounds(folder):
        assert set(line["bytes_up"]) <= {"model", "class-gradients", "class-ids", "class-counts", "confusion", "other"}
        assert line["bytes_up"].get("other") == (128 + 12 if sends_more else None)  # NumPy's header and three numbers
        told = [f"client 0: record {EVIL} is none that the method's `expects` names"]
        assert line["set_aside"] == (told if sends_more else [])
        assert EVIL not in str(line["client_seconds"])
    closing(folder, 1.0)
    assert (folder / "curves.png").exists() and (folder / "summary.json").exists()


@pytest.mark.parametrize("settings", [{"method__name": "fedavg"}, {"method__name": "scaffold"}])
def test_a_client_that_lies_about_the_number_of_its_samples_is_set_aside(settings, tmp_path):
    def lying(server_round, client, message, work):
        reply = work()
        if client == 0:
            reply.content.metric_records["metrics"]["num-examples"] = 1
        return reply

    play(tmp_path / "run", meddling(lying), rounds=1, clients__quorum=0.5, **settings)
    (line,) = read_rounds(tmp_path / "run")
    counts = json.loads((tmp_path / "run" / "partition.json").read_text())["counts"]
    assert line["set_aside"] == [f"client 0: num-examples = 1, its partition has {sum(counts[0])}"]
    assert [client["num-examples"] for client in line["clients"]] == [sum(row) for row in counts[1:]]


def test_an_honest_number_of_samples_is_never_a_lie(tmp_path):
    settings = {"data__validation-share": 0.2, "partition__imbalance": 5.0, "partition__alpha": 0.3}
    play(tmp_path / "run", rounds=1, clients__quorum=1.0, **settings)


@pytest.mark.parametrize("settings", [{"model__share": "head"}, {"method__name": "local"}, {"method__name": "moon"}])
def test_what_clients_kept_in_two_abandoned_attempts_does_not_count(settings, tmp_path):
    """Checkpoints after round 2 and 4; the server is killed in round 4, twice, and client 0 misses round 3 at last."""

    def killed(server_round, client, message, work):
        if server_round == 4:
            raise Killed
        return work()

    def away(server_round, client, message, work):
        gone = server_round == 3 and client == 0
        return Message(Error(code=100, reason="away"), reply_to=message) if gone else work()

    settings |= {"rounds": 5, "checkpoint__every": 2, "clients__quorum": 0.5}
    once, twice = tmp_path / "once", tmp_path / "twice"
    with pytest.raises(Killed):
        play(once, meddling(killed), **settings)
    shutil.copytree(once, twice)
    with pytest.raises(Killed):
        play(twice, meddling(killed), **settings)
    for folder in (once, twice):
        play(folder, meddling(away), **settings)
    outcomes = [json.loads((folder / "summary.json").read_text())["clients"] for folder in (once, twice)]
    assert outcomes[0] == outcomes[1]


def test_a_lost_quorum_is_told_by_the_name_of_the_lie(tmp_path):
    def lying(server_round, client, message, work):
        reply = work()
        reply.content.metric_records["metrics"]["num-examples"] += 1
        return reply

    with pytest.raises(QuorumError, match=r"0 of 3 clients replied well.*num-examples = "):
        play(tmp_path / "run", meddling(lying), rounds=1)
