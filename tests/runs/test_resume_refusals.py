"""What cannot be resumed: finished, damaged, other settings, other data; and that the folder stays as it is."""

import errno
import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tomli_w
from three_rounds import SMALL, run

from fedhpro_flwr import engine
from fedhpro_flwr.config import ConfigError, RunConfig
from fedhpro_flwr.runs.resume import (
    NOT_BEGUN,
    open_run,
    refuse_other_data,
    refuse_other_samples,
    refuse_other_settings,
    resumed,
)
from fedhpro_flwr.runs.run_folder import run_of
from fedhpro_flwr.server.known_data import known_data
from fedhpro_flwr.settings.flat_keys import nest

REFUSED = [
    ({"local.lr": 0.1}, "the run was begun with local.lr = 0.05 (here 0.1); it goes on with its own settings alone"),
    (
        {"seed": 1, "data.test-share": 0.3},
        "the run was begun with seed = 0 (here 1), data.test-share = 0.2 (here 0.3); it goes on with its own settings "
        "alone",
    ),
    ({"checkpoint.every": 2}, "the run was begun with checkpoint.every = 1 (here 2); it goes on with its own"),
    ({"rounds": 2}, "3 rounds were played, rounds = 2 is fewer"),
    ({}, "the run is finished after 3 rounds; to make it longer set more rounds"),
]


@pytest.mark.parametrize(("changes", "sentence"), REFUSED, ids=[", ".join(case[0]) or "nothing" for case in REFUSED])
def test_what_is_refused_and_leaves_the_folder_alone(finished, capsys, changes, sentence):
    before = {path: path.read_bytes() for path in finished.rglob("*") if path.is_file()}
    assert run("--resume", finished, **changes) == 2
    assert f"fedhpro: resume = '{finished}': {sentence}" in " ".join(capsys.readouterr().err.split())
    assert {path: path.read_bytes() for path in finished.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(("method", "refused"), [("scaffold", True), ("fedavg", False)])
def test_a_copy_does_not_take_from_the_original_what_its_clients_keep(method, refused, tmp_path, capsys):
    original, state = tmp_path / "run", tmp_path / "state"
    kept_there = {"run-folder": original, "clients.state-path": state, "method.name": method, "rounds": 1}
    assert run(**SMALL | kept_there) == 0
    copy = shutil.copytree(original, tmp_path / "copy")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert run("--resume", copy, rounds=2) == (2 if refused else 0)
    if refused:
        (kept,) = state.iterdir()
        assert capsys.readouterr().err.splitlines()[-1] == (
            f"fedhpro: {copy} is a copy of {original}, which holds the same run: both would go on with what clients "
            f"keep in {kept}, and each would delete what the other one needs; go on in {original}, or remove it first"
        )
        assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
        assert run("--resume", original, rounds=2) == 0
        shutil.rmtree(original)
        assert run("--resume", copy, rounds=2) == 0


def test_a_folder_without_a_run_is_refused(tmp_path, capsys):
    assert run("--resume", tmp_path) == 2
    assert "no run was begun there, there is no config.toml" in capsys.readouterr().err
    assert run("--resume", tmp_path, "digits") == 2
    assert "--resume goes on with the settings in its folder; leave digits out" in capsys.readouterr().err
    with pytest.raises(ConfigError, match=r"holds no run that was begun: there is no config\.toml in it"):
        resumed(RunConfig.parse(resume=str(tmp_path)))
    assert list(tmp_path.iterdir()) == []


def test_checkpoints_that_are_gone_or_all_damaged_are_refused(stopped):
    config = RunConfig.parse(SMALL | {"resume": str(stopped)})
    for path in (stopped / "checkpoint").iterdir():
        path.write_bytes(b"")
    with pytest.raises(ConfigError, match=r"no checkpoint is left .*round-3.*round-2.*; begin a new run$"):
        resumed(config)
    shutil.rmtree(stopped / "checkpoint")
    with pytest.raises(ConfigError, match="its folder checkpoint is gone; begin a new run"):
        resumed(config)
    off = RunConfig.parse(config.flat() | {"checkpoint.every": 0})
    (stopped / "config.toml").write_text(tomli_w.dumps(nest(off.flat())))
    with pytest.raises(ConfigError, match=r"there are no checkpoints, the run has checkpoint\.every = 0"):
        resumed(off)


def test_a_finished_run_whose_checkpoints_are_gone_does_not_begin_again_however_short_it_was(finished):
    seldom = RunConfig.parse(SMALL | {"resume": str(finished), "checkpoint.every": 3})
    (finished / "config.toml").write_text(tomli_w.dumps(nest(seldom.flat())))
    shutil.rmtree(finished / "checkpoint")
    with pytest.raises(ConfigError, match="its folder checkpoint is gone; begin a new run"):
        resumed(seldom)


def test_lines_of_the_metrics_that_no_checkpoint_can_do_without_are_refused(stopped):
    metrics = stopped / "metrics.jsonl"
    metrics.write_text("".join(metrics.read_text().splitlines(keepends=True)[1:]))
    lost = r"metrics\.jsonl does not hold the {} rounds that were played"
    with pytest.raises(
        ConfigError, match=rf"no checkpoint is left .*{lost.format(3)}; .*{lost.format(2)}; begin a new"
    ):
        resumed(RunConfig.parse(SMALL | {"resume": str(stopped)}))


def test_a_checkpoint_that_may_not_be_read_is_no_damaged_one(stopped, monkeypatch):
    """Called damaged, it would be deleted when the one before is used."""
    newest, opened = stopped / "checkpoint" / "round-3.safetensors", Path.open

    def refusing(path, *given, **more):
        if path == newest:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return opened(path, *given, **more)

    monkeypatch.setattr(Path, "open", refusing)
    with pytest.raises(ConfigError, match=rf"{newest} cannot be read \(Permission denied\)$"):
        resumed(RunConfig.parse(SMALL | {"resume": str(stopped)}))
    assert newest.exists()


def test_a_folder_that_is_not_there_is_one_that_was_not_begun_and_one_that_cannot_be_read_is_not(stopped, monkeypatch):
    """The command that looks after a run begins one anew that was not begun."""
    (stopped / "config.toml").unlink()
    (stopped / "config.toml").mkdir()
    with pytest.raises(ConfigError, match=r"its config\.toml cannot be read \(Is a directory\)") as refused:
        resumed(RunConfig.parse(SMALL | {"resume": str(stopped)}))
    assert NOT_BEGUN not in str(refused.value)


def test_a_folder_with_files_that_are_nested_too_deeply_is_refused_in_a_sentence(stopped):
    (stopped / "partition.json").write_text("[" * 10**5)
    assert run_of(stopped) == ""
    refuse_other_samples(stopped, "content")  # as where it is lost
    (stopped / "config.toml").write_text(".".join("a" * 5000) + " = 1")
    with pytest.raises(ConfigError, match=r"its config\.toml is no good \(unknown key a\.a\)$"):
        resumed(RunConfig.parse(SMALL | {"resume": str(stopped)}))


def test_a_margin_that_rises_until_the_last_round_has_the_rounds_it_was_begun_with(tmp_path, capsys):
    ramp = {"losses.margin-schedule": "ramp", "run-folder": tmp_path / "run", "rounds": 2}
    assert run(**SMALL | ramp) == 0
    assert run("--resume", tmp_path / "run", rounds=4) == 2
    assert "the run was begun with rounds = 2 (here 4)" in " ".join(capsys.readouterr().err.split())


def test_places_may_differ_and_what_lies_there_may_not():
    begun = RunConfig.parse({"data.path": "/old/set.npz", "data.root": "/old"})
    refuse_other_settings(
        begun.flat(), RunConfig.parse({"data.path": "/new/set.npz", "data.root": "/n", "rounds": 99}), "it"
    )
    with pytest.raises(ConfigError, match=r"^it: the run was begun with data\.path = 'set\.npz' \(here 'other\.npz'\)"):
        refuse_other_settings(begun.flat(), RunConfig.parse({"data.path": "/old/other.npz"}), "it")


def test_other_data_and_other_code(stopped):
    known = resumed(RunConfig.parse(SMALL | {"resume": str(stopped)}))
    assert known.warnings == () and known.rounds_before == 3
    refuse_other_data(known.checkpoint, known.checkpoint.about.data)
    with pytest.raises(ConfigError, match=r"the data has changed: .* this is f00d"):
        refuse_other_data(known.checkpoint, "f00d")


def test_other_samples_at_the_same_places(stopped):
    table = json.loads((stopped / "partition.json").read_text())
    refuse_other_samples(stopped, table["content"])
    with pytest.raises(ConfigError, match=r"^the data has changed: the run was begun with samples \w{16}, these"):
        refuse_other_samples(stopped, "f00d")
    (stopped / "partition.json").write_text(json.dumps({key: table[key] for key in table if key != "content"}))
    refuse_other_samples(stopped, "f00d")  # of a release that did not write it


def test_the_command_does_not_go_on_with_a_file_that_was_changed(tmp_path, capsys, monkeypatch):
    def write(value):
        pixels = np.full((60, 4, 4), value, np.uint8)
        np.savez(tmp_path / "mine.npz", images=pixels, labels=np.arange(60) % 3)

    write(1)
    own = {"data.name": "npz", "data.path": tmp_path / "mine.npz", "data.train-limit": 0}
    own["run-folder"] = tmp_path / "run"
    assert run(**SMALL | own) == 0
    write(2)
    monkeypatch.setattr(engine, "RESIDENT", engine.Resident())  # another process reads the file anew
    assert run("--resume", tmp_path / "run", rounds=4) == 1
    assert "the run failed: the data has changed: the run was begun with samples" in capsys.readouterr().err


def test_a_run_on_other_data_is_refused_before_its_folder_is_touched(stopped, tmp_path, monkeypatch):
    """Also where the samples were not written down, as by a release that did not: by the partition alone."""
    table = json.loads((stopped / "partition.json").read_text())
    (stopped / "partition.json").write_text(json.dumps({key: table[key] for key in table if key != "content"}))
    before = {path: path.read_bytes() for path in stopped.rglob("*") if path.is_file()}
    known = replace(known_data(RunConfig.parse(SMALL)), fingerprint="f00d")
    monkeypatch.setattr("fedhpro_flwr.runs.resume.known_data", lambda _: known)
    with pytest.raises(ConfigError, match=r"^the data has changed: .* this is f00d"):
        open_run(RunConfig.parse(SMALL | {"resume": str(stopped)}))
    assert {path: path.read_bytes() for path in stopped.rglob("*") if path.is_file()} == before


def test_a_refusal_leaves_the_summary_of_a_finished_run(finished, capsys):
    before = {path: path.read_bytes() for path in finished.rglob("*") if path.is_file()}
    assert run("--resume", finished, rounds=4, **{"evaluation.alone": "/wrong"}) == 2
    assert "evaluation.alone = '/wrong' holds no finished run" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in finished.rglob("*") if path.is_file()} == before
