"""Places that cannot be written to are refused by the name they were given, and nothing is left in those that can."""

import os
from pathlib import Path

import pytest

from fedhpro_flwr.config import ConfigError
from fedhpro_flwr.writable import make_folder, refuse_unwritable_file

NAMED = "--out x"
READ_ONLY = pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="needs Linux's /proc, where nobody makes files")


def test_a_folder_is_made_with_those_above_it_and_stays_empty(tmp_path):
    for _ in range(2):
        make_folder(tmp_path / "a" / "b", NAMED)
    assert list((tmp_path / "a" / "b").iterdir()) == []


@pytest.mark.parametrize("below", ["", "a", "a/b"])
def test_a_file_in_the_place_of_a_folder_is_named(below, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError) as refused:
        make_folder(tmp_path / "file" / below, NAMED)
    assert str(refused.value) == f"{NAMED}: {tmp_path / 'file'} is a file; name another folder"


@READ_ONLY
def test_a_folder_that_the_system_refuses():
    with pytest.raises(ConfigError, match=rf"^{NAMED}: it cannot be made or written \(.+\); name another folder$"):
        make_folder(Path("/proc/fedhpro"), NAMED)


def test_a_name_that_is_too_long_for_a_folder(tmp_path):
    with pytest.raises(ConfigError, match=r"it cannot be made or written \(File name too long\)"):
        make_folder(tmp_path / ("x" * 300), NAMED)


def test_a_file_that_can_be_written_is_not_touched(tmp_path):
    (tmp_path / "old.csv").write_text("old")
    for name in ("old.csv", "new.csv"):
        refuse_unwritable_file(tmp_path / name, NAMED)
    assert [path.name for path in tmp_path.iterdir()] == ["old.csv"]
    assert (tmp_path / "old.csv").read_text() == "old"


def test_a_folder_in_the_place_of_a_file_or_none_above_it(tmp_path):
    with pytest.raises(ConfigError, match=rf"^{NAMED} is a folder; name a file$"):
        refuse_unwritable_file(tmp_path, NAMED)
    with pytest.raises(ConfigError, match=rf"^{NAMED}: there is no folder {tmp_path}/no; make it first$"):
        refuse_unwritable_file(tmp_path / "no" / "x.csv", NAMED)


@READ_ONLY
def test_a_file_that_the_system_refuses():
    with pytest.raises(ConfigError, match=rf"^{NAMED}: no file can be written to /proc \(.+\); name another folder$"):
        refuse_unwritable_file(Path("/proc/x.csv"), NAMED)
