"""Folders that `fedhpro doctor` looks at: which, whether they can be written, and how full the disk is."""

import shutil

import pytest

from fedhpro_flwr.doctor import places
from fedhpro_flwr.doctor.finding import Level
from fedhpro_flwr.doctor.subject import Subject

OK, WARNING, PROBLEM = Level.OK, Level.WARNING, Level.PROBLEM


def test_folders_that_can_be_written_are_not_made(tmp_path):
    finding = places.writable("place", tmp_path / "a" / "b", "name another")
    assert finding.level is OK
    assert list(tmp_path.iterdir()) == []


def test_a_folder_below_a_file_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    finding = places.writable("place", tmp_path / "file" / "results", "name another")
    assert finding.level is PROBLEM
    assert "cannot be written" in finding.found


@pytest.mark.parametrize(("free", "level"), [(10**7, PROBLEM), (10**9, WARNING), (10**10, OK)])
def test_a_disk_that_is_full(tmp_path, monkeypatch, free, level):
    monkeypatch.setattr(places.shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**12, 10**12 - free, free))
    assert places.writable("place", tmp_path, "name another").level is level


def test_which_folders_are_looked_at(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("FLWR_HOME", str(tmp_path / "flower"))
    assert str(tmp_path / "results") in places.results_folder(Subject()).found
    assert places.results_folder(Subject("supernode")) is None
    assert places.state_folder(Subject()) is None
    assert str(tmp_path / "state" / "fedhpro") in places.state_folder(Subject("supernode")).found
    named = Subject("supernode", node_config={"state-path": str(tmp_path / "mine")})
    assert str(tmp_path / "mine") in places.state_folder(named).found
    finding = places.flower_folder(Subject())
    assert (finding.level is PROBLEM, finding.found.split(",")[0]) == (False, str(tmp_path / "flower"))
    (tmp_path / "mine.toml").write_text(f'results-dir = "{tmp_path}/elsewhere"')
    assert "elsewhere" in places.results_folder(Subject(settings=str(tmp_path / "mine.toml"))).found
    monkeypatch.setenv("FLWR_HOME", "relative")
    assert places.flower_folder(Subject()).advice == "set FLWR_HOME to a full path"
    monkeypatch.delenv("FLWR_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert places.flower_folder(Subject()).found.split(",")[0] == str(tmp_path / ".flwr")
