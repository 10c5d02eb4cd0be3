"""The files of a run: whole or not there at all."""

import errno
import json
import os
import re
import stat
import tomllib
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from fedhpro_flwr.config import ConfigError, RunConfig
from fedhpro_flwr.exchange import GlobalModel
from fedhpro_flwr.runs.failure import failure_told
from fedhpro_flwr.runs.folder_lock import lock
from fedhpro_flwr.runs.reports import RoundReport
from fedhpro_flwr.runs.resume import open_run
from fedhpro_flwr.runs.run_folder import RunFolder, begun_folder, read_rounds
from fedhpro_flwr.server.known_data import KnownData
from fedhpro_flwr.settings.flat_keys import flatten
from fedhpro_flwr.whole_file import whole_file, write_whole

CONFIG = RunConfig.parse({"seed": 3, "data.path": 'a "b" \\ c'})


def report(number):
    return RoundReport(number, 0.5, {}, {}, {"model": 1}, {"model": 2}, [{"partition-id": 0}], train_loss=0.25)


def test_write_whole_writes_and_replaces(tmp_path):
    write_whole(tmp_path / "a", b"old")
    write_whole(tmp_path / "a", b"new")
    assert (tmp_path / "a").read_bytes() == b"new"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_crash_before_the_rename_leaves_the_old_file(tmp_path, monkeypatch):
    write_whole(tmp_path / "a", b"old")

    def crash(self, target):
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", crash)
    with pytest.raises(KeyboardInterrupt):
        write_whole(tmp_path / "a", b"new")
    assert (tmp_path / "a").read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_crash_while_writing_leaves_the_old_file(tmp_path, monkeypatch):
    write_whole(tmp_path / "a", b"old")

    def full(descriptor):
        raise OSError("no space left")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="no space left"):
        write_whole(tmp_path / "a", b"new")
    assert (tmp_path / "a").read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_what_a_killed_writer_left_is_removed_when_the_run_goes_on(tmp_path):
    (tmp_path / "checkpoint").mkdir()
    (tmp_path / "checkpoint" / ".round-3.safetensors.0a.part").write_bytes(b"half")
    (tmp_path / "mine.part").write_bytes(b"whole")
    RunFolder(tmp_path, CONFIG, rounds_before=2)
    assert list((tmp_path / "checkpoint").iterdir()) == []
    assert (tmp_path / "mine.part").exists()


def test_lines_after_the_rounds_before_are_cut_off_bit_for_bit(tmp_path):
    with RunFolder(tmp_path, CONFIG) as folder:
        for number in (1, 2, 3):
            folder.on_round(report(number))
        lines = (tmp_path / "metrics.jsonl").read_bytes().splitlines(keepends=True)
        folder.summary({})
    with RunFolder(tmp_path, CONFIG, rounds_before=2) as again:
        assert (tmp_path / "metrics.jsonl").read_bytes() == b"".join(lines[:2])
        assert not (tmp_path / "summary.json").exists()
        again.on_round(report(3))
    assert (tmp_path / "metrics.jsonl").read_bytes() == b"".join(lines)


def test_two_writers_of_one_file_do_not_meet(tmp_path):
    with whole_file(tmp_path / "a") as one, whole_file(tmp_path / "a") as two:
        assert one != two and one.parent == two.parent == tmp_path
        one.write_bytes(b"1")
        two.write_bytes(b"2")
    assert (tmp_path / "a").read_bytes() == b"1"  # its block ends last
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_whole_file_can_be_read_by_whom_other_files_can(tmp_path):
    (tmp_path / "usual").write_bytes(b"")
    write_whole(tmp_path / "a", b"")
    modes = {stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("usual", "a")}
    assert len(modes) == 1


def test_the_settings_read_back(tmp_path):
    folder = RunFolder(tmp_path / "run", CONFIG)
    stored = flatten(tomllib.loads((folder.path / "config.toml").read_text()))
    assert RunConfig.parse(stored) == CONFIG


def test_a_new_folder_is_named_by_experiment_and_time(tmp_path):
    config = RunConfig.parse(results_dir=str(tmp_path), experiment="x")
    one, two = begun_folder(config), begun_folder(config)
    assert one != two
    assert one.parent == tmp_path / "x"
    assert re.fullmatch(r"\d{8}-\d{6}-[0-9a-f]{4}", one.name)


def test_a_run_begins_in_a_folder_under_results_or_takes_the_named_one(tmp_path):
    config = RunConfig.parse(results_dir=str(tmp_path), experiment="mine")
    made = open_run(config)[0].path
    assert made.parent == tmp_path / "mine"
    # Whoever copies it to resume the run with plain `flwr run` finds there where it is.
    assert tomllib.loads((made / "config.toml").read_text())["run-folder"] == str(made)
    named, *_ = open_run(RunConfig.parse(run_folder=str(tmp_path / "here" / "it")))
    assert named.path == tmp_path / "here" / "it"
    assert (named.path / "config.toml").exists()


def test_rounds_read_back_and_are_on_the_disk_at_once(tmp_path):
    folder = RunFolder(tmp_path, CONFIG)
    for number in (1, 2):
        folder.on_round(report(number))
        assert [line["server_round"] for line in read_rounds(tmp_path)] == list(range(1, number + 1))
    assert read_rounds(tmp_path)[0] == json.loads(json.dumps(report(1).line()))


@pytest.mark.parametrize("cut", range(1, 40, 6))
def test_a_line_that_is_not_complete_does_not_count(tmp_path, cut):
    folder = RunFolder(tmp_path, CONFIG)
    for number in (1, 2):
        folder.on_round(report(number))
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(path.read_bytes()[:-cut])
    assert [line["server_round"] for line in read_rounds(tmp_path)] == [1]


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b'{"server_round": 2', "it is no report of a round (Invalid JSON: EOF while parsing an object at column 18);"),
        (b"\xff\xfe", "it is no report of a round (Invalid JSON: expected value at column 1);"),
        (b"[1]", "it is no report of a round (it must be an object);"),
        (b"{}", "it is no report of a round (server_round: Field required);"),
        (b'{"server_round": "2", "seconds": 1, "received": null, "tested": null}', "it is no report of a round"),
        (b'{"a":' + b"[" * 10**5, "it is no report of a round (Invalid JSON: recursion limit exceeded"),
        (json.dumps(report(2).line() | {"seconds": "2"}).encode(), "it is no report of a round (seconds: it must be"),
    ],
)
def test_a_damaged_line_is_named_by_its_number(content, why, tmp_path):
    RunFolder(tmp_path, CONFIG).on_round(report(1))
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(path.read_bytes() + content + b"\n")
    with pytest.raises(ConfigError, match=re.escape(f"{path}, line 2 cannot be read: {why}")) as refused:
        read_rounds(tmp_path)
    assert str(refused.value).endswith("; bring the file back, or begin a new run")
    assert RunFolder(tmp_path, CONFIG).path == tmp_path  # begun anew, it is not in the way
    assert read_rounds(tmp_path) == []


def test_no_rounds_yet(tmp_path):
    assert read_rounds(tmp_path) == []


def test_tensors_read_back_bit_for_bit(tmp_path):
    draw = torch.Generator().manual_seed(0)
    model = {
        "conv": torch.randn(2, 3, 4, 4, generator=draw).to(memory_format=torch.channels_last),
        "batches": torch.tensor(7),
    }
    state = {"hyper-prototypes": torch.randn(3, 2, 4, generator=draw)}
    folder = RunFolder(tmp_path, CONFIG)
    folder.models(GlobalModel(model), state)
    stored = load_file(tmp_path / "model.safetensors")
    assert stored.keys() == model.keys()
    assert all(torch.equal(stored[name], model[name]) and stored[name].dtype == model[name].dtype for name in model)
    (read,) = load_file(tmp_path / "hyper-prototypes.safetensors").values()
    assert torch.equal(read, state["hyper-prototypes"])


def test_tensors_that_share_their_memory_are_written_each(tmp_path):
    shared = torch.arange(6.0)
    state = {"a": shared, "b": shared, "turned": shared.view(2, 3).T, "wide": shared[:1].expand(4)}
    RunFolder(tmp_path, CONFIG).models(GlobalModel(state), state)
    for stored in (load_file(tmp_path / "method.safetensors"), load_file(tmp_path / "model.safetensors")):
        assert {name: tensor.tolist() for name, tensor in stored.items()} == {k: v.tolist() for k, v in state.items()}


def test_a_method_without_state_leaves_no_file_of_it(tmp_path):
    RunFolder(tmp_path, CONFIG).models(GlobalModel({"w": torch.zeros(1)}), {})
    assert not (tmp_path / "hyper-prototypes.safetensors").exists()


def test_every_group_of_encoders_has_its_own_file_with_the_shared_head(tmp_path):
    head, encoders = {"head.bias": torch.ones(2)}, {"cnn": {"encoder.w": torch.zeros(1)}, "mlp": {}}
    RunFolder(tmp_path, CONFIG).models(GlobalModel(head, encoders, ["cnn", "mlp"]), {})
    assert set(load_file(tmp_path / "model-cnn.safetensors")) == {"head.bias", "encoder.w"}
    assert set(load_file(tmp_path / "model-mlp.safetensors")) == {"head.bias"}
    assert not (tmp_path / "model.safetensors").exists()


def test_partition_summary_and_failure(tmp_path):
    folder = RunFolder(tmp_path, CONFIG)
    shape = SimpleNamespace(class_names=("a", "b"))
    folder.partition(KnownData(shape, None, ("", ""), np.array([[1, 2], [3, 0]]), (), "f00d", "beef"))
    folder.summary({"accuracy": {"best": 0.5}})
    folder.failure("too few clients: ü \udce9")
    assert json.loads((tmp_path / "partition.json").read_text()) == {
        "run": folder.run,
        "fingerprint": "f00d",
        "content": "beef",
        "class-names": ["a", "b"],
        "client-domains": ["", ""],
        "counts": [[1, 2], [3, 0]],
    }
    assert json.loads((tmp_path / "summary.json").read_text()) == {"accuracy": {"best": 0.5}}
    assert (tmp_path / "failure.txt").read_text(encoding="utf-8") == "too few clients: ü \\udce9"


def test_a_run_without_checkpoints_is_not_said_to_go_on(tmp_path):
    assert f"`fedhpro run --resume {tmp_path}`" in RunFolder(tmp_path, CONFIG).going_on
    none = RunConfig.parse(checkpoint__every=0)
    wanted = "there are no checkpoints to go on from (checkpoint.every = 0): begin a new run"
    assert RunFolder(tmp_path, none).going_on == wanted


def test_a_finished_run_is_not_written_over(tmp_path):
    config = RunConfig.parse(run_folder=str(tmp_path))
    with open_run(config)[0] as folder:
        folder.on_round(report(1))
        folder.summary({})
    with pytest.raises(ConfigError) as refused:
        open_run(config)
    assert str(refused.value) == f"run-folder = {str(tmp_path)!r} holds a finished run; name another folder"
    assert len(read_rounds(tmp_path)) == 1


def test_a_run_that_failed_is_begun_anew(tmp_path):
    config = RunConfig.parse(run_folder=str(tmp_path))
    groups = GlobalModel({"head.bias": torch.ones(2)}, {"cnn": {"w": torch.zeros(1)}, "mlp": {}}, ["cnn", "mlp"])
    with open_run(config)[0] as folder:
        folder.on_round(report(1))
        for method in ({"hyper-prototypes": torch.zeros(1)}, {"variate": torch.zeros(1)}):
            folder.models(groups, method)
        folder.models(GlobalModel({"w": torch.zeros(1)}), {})
        for name in ("prototypes.safetensors", "curves.png", "my-notes.txt"):
            (tmp_path / name).write_text("of the attempt that failed")
        folder.failure("no clients")
    with open_run(config)[0] as again:
        left = {path.name for path in tmp_path.iterdir()}
        assert left == {"config.toml", "metrics.jsonl", ".writer", "my-notes.txt"}  # nothing of a model that is none
        again.on_round(report(1))
    assert len(read_rounds(tmp_path)) == 1


def test_a_run_that_can_go_on_is_not_written_over(tmp_path):
    """Whoever gives the same command again, a batch system say, loses nothing."""
    config = RunConfig.parse(run_folder=str(tmp_path))
    with open_run(config)[0] as folder:
        folder.on_round(report(1))
    (tmp_path / "checkpoint").mkdir()
    (tmp_path / "checkpoint" / "round-1.safetensors").write_bytes(b"")
    with pytest.raises(ConfigError) as refused:
        open_run(config)
    assert str(refused.value) == (
        f"run-folder = {str(tmp_path)!r} holds a run that was stopped after round 1 or later: go on with "
        f"`fedhpro run --resume {tmp_path}`, delete its folder checkpoint to begin anew, or name another folder"
    )
    assert len(read_rounds(tmp_path)) == 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device here is always full")
def test_a_line_that_a_full_disk_has_no_room_for_is_told_with_the_way_on_and_the_folder_is_let_go_of(tmp_path):
    """Closed, the file is written to once more."""
    run = RunFolder(tmp_path, CONFIG)
    with pytest.raises(OSError) as failed, run, failure_told(run, goes_on=False), open("/dev/full", "wb") as disk:
        os.dup2(disk.fileno(), run._metrics.fileno())
        run.on_round(report(1))
    no_room = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(tmp_path / "metrics.jsonl"))
    assert str(failed.value) == f"{no_room}; {run.going_on}"
    lock(tmp_path).close()


def test_two_runs_of_one_process_do_not_share_a_folder(tmp_path):
    with RunFolder(tmp_path, CONFIG), pytest.raises(ConfigError, match="another process still writes this run"):
        RunFolder(tmp_path, CONFIG)
    with RunFolder(tmp_path, CONFIG):  # it was let go of
        pass
