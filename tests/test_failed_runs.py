"""Runs that fail: exit status 1, the reason in one sentence and in failure.txt, and a folder to begin anew in."""

import errno
import os
import re
import shutil
from pathlib import Path

import pytest
from small_run import npz, only_folder, run

from fedhpro_flwr import whole_file
from fedhpro_flwr.config import ConfigError, RunConfig
from fedhpro_flwr.launch import in_process
from fedhpro_flwr.runs.failure import refusal_told
from fedhpro_flwr.runs.folder_lock import lock
from fedhpro_flwr.runs.progress import RoundLog
from fedhpro_flwr.runs.run_folder import read_rounds

FAILURES = [
    ({"data__name": "npz", "data__path": "/no/such.npz"}, "data.path = '/no/such.npz' does not exist"),
    ({"data__name": "npz"}, "data.name = 'npz' needs data.path"),
    ({"data__name": "mnist", "data__root": "/no/such/folder"}, "/no/such/folder"),
    ({"partition__num_partitions": 500}, "partition.num-partitions = 500, but there are only 120 training samples"),
    ({"partition__num_partitions": 61, "partition__scheme": "iid"}, "partition.min-samples = 2"),
]


@pytest.mark.parametrize(("changes", "sentence"), FAILURES, ids=[str(list(case[0].values())[-1]) for case in FAILURES])
def test_what_only_the_server_can_see_ends_with_1_before_any_client(changes, sentence, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(
        in_process.InProcessGrid, "push_messages", lambda *_: pytest.fail("a message was sent to a client")
    )
    assert run(tmp_path, **changes) == 1
    said = capsys.readouterr().err
    last = said.splitlines()[-1]
    assert last.startswith("fedhpro: the run failed: ")
    assert sentence in last
    folder = only_folder(tmp_path)
    assert (folder / "failure.txt").read_text() in last
    assert not (folder / "summary.json").exists()
    assert not (folder / "model.safetensors").exists()


def test_dsa_on_vectors_is_refused_before_the_first_round(tmp_path, capsys):
    path = npz(tmp_path / "my.npz")
    assert run(tmp_path, preset="reference", data__name="npz", data__path=path, data__train_limit=0) == 1
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.endswith("failed: class-gradients.augment = 'dsa' needs images; use 'none' for vectors and text")


def test_a_rate_that_breaks_every_model_loses_the_quorum_with_every_clients_reason(tmp_path, capsys):
    assert run(tmp_path, local__lr=1e30) == 1
    said = capsys.readouterr().err.splitlines()[-1]
    assert "round 1: 0 of 3 clients replied well" in said
    assert "clients 1, 2: metric train-loss = nan is not finite: training has diverged, lower local.lr or the" in said
    assert re.search(r"client 0: model tensor \S+ has an entry beyond 1e\+09: training has diverged, lower local", said)


def test_where_clients_would_reply_so_again_both_ways_on_are_told(tmp_path, capsys):
    """A full disk at a client can be mended, a setting that is too strict cannot."""
    assert run(tmp_path, aggregation__max_update_norm=0.001) == 1
    said = capsys.readouterr().err.splitlines()[-1]
    assert "aggregation.max-update-norm = 0.001; they would reply so again: begin with other settings; or," in said
    assert "mend it and go on with `fedhpro" in said


DIVERGING = [
    (
        {"method__name": "creff", "creff__matching_distance": "mse", "creff__matching_lr": 1e30},
        "method.name = 'creff': its server_step made federated-features not finite",
        ": what the server trains has diverged; lower creff.matching-lr = 1e+30 or creff.lr = 0.01",
    ),
    (
        {"method__name": "fedtgp", "fedtgp__server_lr": 1e9},
        "method.name = 'fedtgp': its server_step ",
        ": what the server trains has diverged; lower fedtgp.server-lr = 1000000000.0",
    ),
    (
        {"hyper_prototypes__matching_lr": 1e38},
        "method.name = 'fedhpro': its server_step ",
        ": what the server trains has diverged; lower hyper-prototypes.matching-lr = 1e+38",
    ),
]


@pytest.mark.parametrize(("changes", "begin", "end"), DIVERGING, ids=["creff", "fedtgp", "fedhpro"])
def test_what_diverges_on_the_server_ends_the_round_and_the_rate_is_named(changes, begin, end, tmp_path, capsys):
    assert run(tmp_path, **changes) == 1
    said = capsys.readouterr().err.splitlines()[-1]
    assert begin in said and said.endswith(end)
    assert read_rounds(only_folder(tmp_path)) == []


def test_a_loss_that_overflows_is_unknown_and_no_nan_is_written(tmp_path):
    changes = {"model__name": "cnn", "local__batch_size": 1000, "local__lr": 1e6}
    assert run(tmp_path, **changes) == 0
    (line,) = read_rounds(only_folder(tmp_path))
    assert line["tested"]["loss"] is None and 0 <= line["tested"]["accuracy"] <= 1
    assert "NaN" not in (only_folder(tmp_path) / "summary.json").read_text()


def test_a_reason_of_many_lines_is_told_by_its_first(tmp_path, monkeypatch):
    from fedhpro_flwr.runs import results

    def broken(*_):
        raise RuntimeError("no room\nframe 0\nframe 1")

    monkeypatch.setattr(results, "draw_curves", broken)
    assert run(tmp_path) == 1
    assert (only_folder(tmp_path) / "failure.txt").read_text() == "RuntimeError: no room"


def test_a_resumed_run_that_misses_nodes_names_the_way_on_and_a_new_one_has_none(tmp_path, capsys, monkeypatch):
    folder, needed = tmp_path / "named", "2 nodes after 0 s, clients.num-nodes = 3 are needed"
    for resumed in (False, True):
        with monkeypatch.context() as patched:
            patched.setattr(in_process.InProcessGrid, "get_node_ids", lambda _: [100, 101])
            changes = {"resume": folder, "rounds": 2} if resumed else {}
            assert run(tmp_path, run_folder=folder, clients__timeout=0.1, **changes) == 1
        way_on = f"; go on with `fedhpro run --resume {folder}`" if resumed else ""
        said = capsys.readouterr().err.splitlines()[-1]
        assert said.partition(", on a SuperLink")[0] == f"fedhpro: the run failed: {needed}{way_on}"
        assert run(tmp_path, run_folder=folder, **changes) == 0
        capsys.readouterr()


def test_wrong_settings_leave_a_finished_run_and_one_that_is_played_alone(tmp_path):
    with pytest.raises(ConfigError), refusal_told(str(tmp_path / "new")):
        RunConfig.parse({"rouns": 1})
    assert "rouns" in (tmp_path / "new" / "failure.txt").read_text()
    (tmp_path / "summary.json").write_text("{}")
    (tmp_path / "played").mkdir()
    with lock(tmp_path / "played"):
        for folder in (tmp_path, tmp_path / "played"):
            with pytest.raises(ConfigError, match="rouns"), refusal_told(str(folder)):
                RunConfig.parse({"rouns": 1})
            assert not (folder / "failure.txt").exists()


def test_an_unexpected_exception_ends_with_1_a_reason_and_a_traceback(tmp_path, capsys, monkeypatch):
    from fedhpro_flwr.runs import results

    def broken(*_):
        raise TypeError("a bug")

    monkeypatch.setattr(results, "draw_curves", broken)
    assert run(tmp_path) == 1
    told = capsys.readouterr()
    assert told.err.splitlines()[-1] == "fedhpro: the run failed: TypeError: a bug"
    assert "Traceback" in told.err
    assert (only_folder(tmp_path) / "failure.txt").read_text() == "TypeError: a bug"


@pytest.mark.parametrize("for_the_reason", [True, False], ids=["", "and no room for the reason"])
def test_a_full_disk_names_the_file_and_the_way_on(for_the_reason, tmp_path, capsys, monkeypatch):
    write = Path.write_bytes

    def full(path: Path, content: bytes) -> int:
        if "round-2.safetensors" in path.name or ("failure.txt" in path.name and not for_the_reason):
            with open("/dev/full", "wb") as disk:
                disk.write(content)  # raises, and names no file
        return write(path, content)

    monkeypatch.setattr(Path, "write_bytes", full)
    folder = tmp_path / "named"
    assert run(tmp_path, run_folder=folder, rounds=2) == 1
    said = capsys.readouterr().err.splitlines()[-1]
    named = f"[Errno {errno.ENOSPC}] {os.strerror(errno.ENOSPC)}: '{folder / 'checkpoint' / 'round-2.safetensors'}'"
    assert said.startswith(f"fedhpro: the run failed: {named}; go on with `fedhpro run --resume {folder}`")
    assert (folder / "failure.txt").exists() == for_the_reason
    monkeypatch.undo()
    assert run(tmp_path, resume=folder, run_folder=folder, rounds=2) == 0
    assert len(read_rounds(folder)) == 2


def test_the_line_of_a_round_that_finds_no_room_names_its_file(tmp_path, capsys, monkeypatch):
    flushed = os.fsync

    def full(descriptor: int) -> None:
        if os.readlink(f"/proc/self/fd/{descriptor}").endswith("/metrics.jsonl"):
            raise OSError(errno.ENOSPC, "full")
        flushed(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    assert run(tmp_path, run_folder=tmp_path / "named") == 1
    assert f"] full: '{tmp_path / 'named' / 'metrics.jsonl'}'; go on" in capsys.readouterr().err.splitlines()[-1]


def test_a_folder_that_is_deleted_while_the_run_goes_on_ends_it_with_that(tmp_path, capsys, monkeypatch):
    folder, told, rounds = tmp_path / "named", RoundLog.on_round, []

    def deleted(log, report):
        told(log, report)
        rounds.append(report.server_round)
        shutil.rmtree(folder)

    monkeypatch.setattr(RoundLog, "on_round", deleted)
    assert run(tmp_path, run_folder=folder, rounds=4) == 1
    assert "the run's folder was deleted while it went on: '" in capsys.readouterr().err.splitlines()[-1]
    assert rounds == [1]


def test_an_error_that_names_its_file_keeps_it(tmp_path):
    with pytest.raises(OSError, match=r"No such file or directory: '/no/such'$"), whole_file.naming(tmp_path):
        open("/no/such").close()
    with pytest.raises(OSError, match=r"^plain$"), whole_file.naming(tmp_path):
        raise OSError("plain")


def test_a_failed_run_can_be_begun_anew_in_its_folder(tmp_path, capsys):
    folder = tmp_path / "named"
    assert run(tmp_path, run_folder=folder, partition__num_partitions=500) == 1
    assert run(tmp_path, run_folder=folder) == 0
    assert not (folder / "failure.txt").exists()
    assert len(read_rounds(folder)) == 1
