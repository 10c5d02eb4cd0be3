"""Which stopped runs of a grid go on, and which are begun anew."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from fedhpro_flwr.cli import main
from fedhpro_flwr.comparison import stopped_run
from fedhpro_flwr.comparison.stopped_run import goes_on_after
from fedhpro_flwr.comparison.worker import run_in
from fedhpro_flwr.engine import RESIDENT
from fedhpro_flwr.runs.folder_lock import lock


def samples(file, value):
    np.savez(file, images=np.full((60, 4, 4), value, np.uint8), labels=np.arange(60) % 3)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run of two rounds on a file beside it."""
    folder = tmp_path_factory.mktemp("stopped")
    samples(folder / "mine.npz", 1)
    changes = {
        "rounds": 2,
        "data.name": "npz",
        "data.path": folder / "mine.npz",
        "data.train-limit": 0,
        "partition.num-partitions": 2,
        "model.name": "mlp",
        "local.epochs": 1,
        "run-folder": folder / "run",
    }
    flags = [word for key, value in changes.items() for word in ("--set", f"{key}={value}")]
    assert main(["run", *flags, "--engine", "in-process"]) == 0
    return folder / "run"


@pytest.fixture
def stopped(finished):
    """The run in its own folder, as if it had been killed before its summary was written."""
    kept = finished.with_name("kept")
    shutil.copytree(finished, kept)
    (finished / "summary.json").unlink()
    yield finished
    shutil.rmtree(finished)
    kept.rename(finished)
    samples(finished.with_name("mine.npz"), 1)


def test_a_stopped_run_goes_on(stopped):
    assert run_in(stopped) == (["--resume", str(stopped)], 2)
    assert (stopped / "checkpoint").exists()


def test_nothing_is_removed_while_another_process_writes_the_run(stopped, monkeypatch, capsys):
    monkeypatch.setattr(stopped_run, "LOCK_SECONDS", 0.0)
    its_code_has_changed(stopped, monkeypatch)
    with lock(stopped):
        assert main(["run", *run_in(stopped)[0], "--engine", "in-process"]) == 2
    assert "another process still writes this run" in capsys.readouterr().err
    assert (stopped / "checkpoint").exists()


def its_code_has_changed(stopped, monkeypatch):
    monkeypatch.setattr(stopped_run, "code_fingerprint", lambda: "another")


def its_samples_have_changed(stopped, monkeypatch):
    samples(stopped.with_name("mine.npz"), 2)


def its_data_is_gone(stopped, monkeypatch):
    stopped.with_name("mine.npz").unlink()


def its_settings_have_changed(stopped, monkeypatch):
    config = (stopped / "config.toml").read_text()
    (stopped / "config.toml").write_text(config.replace("seed = 0", "seed = 1"))


def its_rounds_have_changed(stopped, monkeypatch):
    config = (stopped / "config.toml").read_text()
    (stopped / "config.toml").write_text(config.replace("rounds = 2", "rounds = 3"))


def its_settings_are_no_good(stopped, monkeypatch):
    (stopped / "config.toml").write_text("rounds = many")


def its_checkpoints_are_damaged(stopped, monkeypatch):
    for file in (stopped / "checkpoint").rglob("*.*"):
        file.write_bytes(b"no")


def it_has_no_checkpoint(stopped, monkeypatch):
    shutil.rmtree(stopped / "checkpoint")


def its_first_checkpoint_was_not_written_yet(stopped, monkeypatch):
    it_has_no_checkpoint(stopped, monkeypatch)
    (stopped / "checkpoint").mkdir()
    (stopped / "metrics.jsonl").unlink()


@pytest.mark.parametrize(
    "change",
    [
        its_code_has_changed,
        its_samples_have_changed,
        its_data_is_gone,
        its_settings_have_changed,
        its_rounds_have_changed,
        its_settings_are_no_good,
        its_checkpoints_are_damaged,
        it_has_no_checkpoint,
        its_first_checkpoint_was_not_written_yet,
    ],
)
def test_a_run_is_begun_anew_if(change, stopped, monkeypatch):
    change(stopped, monkeypatch)
    RESIDENT.entries.clear()  # as in a process that has just started
    assert not goes_on_after(stopped)
    assert run_in(stopped) == ([str(stopped / "config.toml")], 0)
    assert not (stopped / "checkpoint").exists()  # `fedhpro run` writes over no run that can go on
