"""flower.log: what stands there already, what comes again, and a disk that is full."""

from __future__ import annotations

from pathlib import Path

from fedhpro_flwr.launch.log_file import LogFile


def test_lines_follow_those_that_stand_there_and_are_on_the_disk_at_once(tmp_path: Path) -> None:
    path = tmp_path / "flower.log"
    for line in ("é", "é", ""):
        with LogFile(path) as log:
            before = path.read_bytes()
            log.write(line)
            assert path.read_bytes() == before + f"{line}\n".encode()


def test_of_a_log_that_comes_again_what_stands_there_is_left_out(tmp_path: Path) -> None:
    """Each as often as it stands there; a line may hold what Python takes for the end of one."""
    path = tmp_path / "flower.log"
    path.write_bytes("a\na\n\nb\u2028c\n".encode() + b"\xff\n")
    with LogFile(path, again=True) as log:
        for line in ("a", "a", "", "b\u2028c", "\ufffd", "a", "", "d"):
            log.write(line)
    assert path.read_bytes() == "a\na\n\nb\u2028c\n".encode() + b"\xff\na\n\nd\n"


def test_a_log_that_comes_again_may_be_the_first_to_be_kept(tmp_path: Path) -> None:
    with LogFile(tmp_path / "flower.log", again=True) as log:
        log.write("a")
    assert (tmp_path / "flower.log").read_text() == "a\n"


def test_a_full_disk_is_told_once_and_ends_nothing(tmp_path: Path) -> None:
    path, told = tmp_path / "flower.log", []
    path.symlink_to("/dev/full")
    with LogFile(path, told.append) as log:
        log.write("a")
        log.write("b")
    assert told == [f"{path} cannot be written (No space left on device): lines of the log are lost there"]


def test_a_full_disk_need_not_be_told(tmp_path: Path) -> None:
    (tmp_path / "flower.log").symlink_to("/dev/full")
    with LogFile(tmp_path / "flower.log") as log:
        log.write("a")
