"""Weights & Biases: what its own messages in the offline run's file say."""

import json
import os
import struct
import subprocess

import pytest

from fedhpro_flwr.tracking.wandb import WeightsAndBiases

pytest.importorskip("wandb", reason="the package wandb is not installed")

HEADER, BLOCK, CHUNK_HEADER = 7, 32768, 7
LAST_CHUNKS = (1, 4)  # the whole of a record, or its end


@pytest.fixture(autouse=True)
def no_service_is_left():
    """The library's service process ends with the test."""
    yield
    import wandb

    wandb.teardown()
    children = subprocess.run(["ps", "-A", "-o", "ppid=,args="], capture_output=True, text=True, check=True).stdout
    own = [line for line in children.splitlines() if line.split()[0] == str(os.getpid())]
    assert [line for line in own if "wandb" in line] == []


def records(path):
    """The protobuf messages of a run file: LevelDB's log format (blocks of 32 kB) after a header of its own."""
    from wandb.proto.wandb_internal_pb2 import Record

    data = path.read_bytes()
    assert data.startswith(b":W&B")
    place, whole = HEADER, b""
    while place < len(data):
        if BLOCK - place % BLOCK < CHUNK_HEADER:  # no chunk begins in the last bytes of a block
            place += BLOCK - place % BLOCK
            continue
        _, length, kind = struct.unpack_from("<IHB", data, place)
        place += CHUNK_HEADER
        whole += data[place : place + length]
        place += length
        if kind in LAST_CHUNKS:
            yield Record.FromString(whole)
            whole = b""


def offline_run(run):
    """The run, its settings, history and summary, and its exit code: of the only run below the folder."""
    import wandb

    wandb.teardown()  # the service writes a finished run to its end
    (path,) = (run.folder / "wandb").glob("offline-run-*/run-*.wandb")
    found = list(records(path))

    def items(entries):
        return {entry.key or "/".join(entry.nested_key): json.loads(entry.value_json) for entry in entries}

    (begun,) = [record.run for record in found if record.HasField("run")]
    history = [items(record.history.item) for record in found if record.HasField("history")]
    summary = {}
    for record in found:
        if record.HasField("summary"):
            summary |= items(record.summary.update)
    (ended,) = [record.exit.exit_code for record in found if record.HasField("exit")]
    return begun, items(begun.config.update), history, summary, ended


def test_settings_numbers_and_summary_read_back(tracked_run):
    bias = WeightsAndBiases(tracked_run)
    bias.log(1, {"server/accuracy": 0.1, "seconds/client/local-training": 2.0})
    bias.log(2, {"server/accuracy": 0.75})
    bias.summary({"summary/best": 0.75})
    bias.close(failed=False)
    begun, settings, history, summary, ended = offline_run(tracked_run)
    assert (begun.project, begun.display_name) == ("digits", tracked_run.folder.name)
    assert {key: settings[key] for key in tracked_run.settings} == tracked_run.settings
    numbers = [{name: value for name, value in line.items() if not name.startswith("_")} for line in history]
    assert numbers == [{"server/accuracy": 0.1, "seconds/client/local-training": 2.0}, {"server/accuracy": 0.75}]
    assert [line["_step"] for line in history] == [1, 2]
    assert summary["summary/best"] == 0.75
    assert ended == 0


def test_a_run_that_failed_ends_with_1(tracked_run):
    bias = WeightsAndBiases(tracked_run)
    bias.log(1, {"train/loss": 2.0})
    bias.close(failed=True)
    *_, ended = offline_run(tracked_run)
    assert ended == 1


def test_a_run_that_the_caller_has_of_their_own_goes_on(tracked_run, tmp_path):
    import wandb

    (tmp_path / "own").mkdir()
    own = wandb.init(project="mine", dir=tmp_path / "own", mode="offline", settings=wandb.Settings(silent=True))
    bias = WeightsAndBiases(tracked_run)
    bias.log(1, {"train/loss": 2.0})
    bias.close(failed=False)
    assert wandb.run is own
    own.log({"mine": 1.0})
    own.finish()
    _, _, history, _, _ = offline_run(tracked_run)
    assert ["mine" in line for line in history] == [False]


def test_the_environment_chooses_mode_and_project(tracked_run, monkeypatch):
    monkeypatch.setenv("WANDB_PROJECT", "hyper-prototypes")
    bias = WeightsAndBiases(tracked_run)
    bias.close(failed=False)
    assert offline_run(tracked_run)[0].project == "hyper-prototypes"
    monkeypatch.setenv("WANDB_MODE", "disabled")
    bias = WeightsAndBiases(tracked_run)
    bias.log(1, {"train/loss": 2.0})
    bias.close(failed=False)
    assert len(list((tracked_run.folder / "wandb").glob("*run-*"))) == 1
