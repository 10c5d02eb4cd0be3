"""One process writes in a folder, from the first look at it to the last line."""

import errno
import gc
import os
import shutil
import subprocess
import sys

import pytest
from faulty_grid import Clock
from three_rounds import SMALL, run

from fedhpro_flwr import file_lock
from fedhpro_flwr.config import ConfigError, RunConfig
from fedhpro_flwr.file_lock import HeldError
from fedhpro_flwr.runs import resume, run_folder
from fedhpro_flwr.runs.folder_lock import holder, lock
from fedhpro_flwr.runs.resume import resumed


def test_a_run_that_another_process_still_plays_is_refused_and_left_as_it_is(stopped, capsys):
    script = f"import fcntl, sys; file = open({str(stopped / '.writer')!r}, 'ab'); fcntl.flock(file, fcntl.LOCK_EX)"
    script += "; print('locked', flush=True); sys.stdin.read()"
    other = subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert other.stdout.readline() == b"locked\n"
        with pytest.raises(ConfigError, match="another process still writes this run; wait for it or stop it"):
            resumed(RunConfig.parse(SMALL | {"resume": str(stopped)}))
        metrics = (stopped / "metrics.jsonl").read_bytes()
        shutil.rmtree(stopped / "checkpoint")
        assert run(**SMALL | {"run-folder": stopped}) == 2  # begun anew in the same folder
        assert "another process still writes this run" in capsys.readouterr().err
        assert (stopped / "metrics.jsonl").read_bytes() == metrics
    finally:
        other.communicate()
    lock(stopped).close()


def refuses_another_process(folder):
    """Whether a process that would write there now is told to wait."""
    script = f"from pathlib import Path; from fedhpro_flwr.runs.folder_lock import lock; lock(Path({str(folder)!r}))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    return done.returncode != 0 and "another process still writes this run" in done.stderr


def watched(monkeypatch, module, name, folder):
    """Whether the folder is held, noted whenever the function of a module is called."""
    seen, function = [], getattr(module, name)

    def noting(config):
        seen.append(refuses_another_process(folder))
        return function(config)

    monkeypatch.setattr(module, name, noting)
    return seen


def test_between_the_look_at_a_run_and_the_first_line_nobody_else_can_play_it(stopped, monkeypatch):
    """A process that was halted while it loaded its data would take apart what another one finished."""
    seen = []
    known = resume.known_data
    monkeypatch.setattr(
        resume, "known_data", lambda config: (seen.append(refuses_another_process(stopped)), known(config))[1]
    )
    folder, *_ = resume.open_run(RunConfig.parse(SMALL | {"rounds": 4, "resume": str(stopped)}))
    with folder:
        assert seen == [True] and refuses_another_process(stopped)
    assert not refuses_another_process(stopped)


def test_a_run_that_begins_anew_in_a_folder_holds_it_from_the_first_look_on(stopped, monkeypatch):
    shutil.rmtree(stopped / "checkpoint")
    seen = watched(monkeypatch, resume, "begun_folder", stopped)
    folder, *_ = resume.open_run(RunConfig.parse(SMALL | {"run-folder": str(stopped)}))
    with folder:
        assert seen == [True] and refuses_another_process(stopped)


def test_a_run_that_ended_takes_no_lock_from_the_one_that_goes_on_after_it(stopped, monkeypatch):
    """Both in one process; what is left of the first is let go of at some moment of the second."""
    assert run("--resume", stopped, rounds=4) == 0
    seen = []
    write = run_folder.RunFolder.on_round

    def noting(folder, report):
        gc.collect()
        seen.append(refuses_another_process(stopped))
        write(folder, report)

    monkeypatch.setattr(run_folder.RunFolder, "on_round", noting)
    assert run("--resume", stopped, rounds=5) == 0
    assert seen == [True]
    assert not refuses_another_process(stopped)


def test_a_folder_that_is_refused_is_let_go_of(stopped):
    with pytest.raises(ConfigError, match=r"the run was begun with local\.lr = "):
        resume.open_run(RunConfig.parse(SMALL | {"local.lr": 0.5, "resume": str(stopped)}))
    assert not refuses_another_process(stopped)


def test_on_a_full_disk_the_folder_is_locked_without_a_name(tmp_path):
    (tmp_path / ".writer").symlink_to("/dev/full")
    with lock(tmp_path, run_id="12") as held:
        assert not held.closed


def test_a_folder_names_the_run_that_holds_it_and_none_that_held_it_before(tmp_path):
    for run_id in ("4711", "12"):
        with lock(tmp_path, run_id=run_id):
            assert holder(tmp_path) == run_id
        assert holder(tmp_path) == ""
    lock(tmp_path).close()
    assert (tmp_path / ".writer").read_text() == "12"  # a look leaves the folder as it is


@pytest.mark.parametrize("patience", [0.0, 3.0])
def test_another_run_is_waited_for_no_longer_than_it_is_said(patience, tmp_path, monkeypatch):
    clock = Clock()
    monkeypatch.setattr(file_lock, "time", clock)
    refusal = f"^{tmp_path}: another process still writes this run; wait for it or stop it$"
    with lock(tmp_path), pytest.raises(HeldError, match=refusal):
        lock(tmp_path, *([patience] if patience else []))
    assert clock.now == pytest.approx(patience, abs=2 * file_lock.POLL_SECONDS)


def test_where_there_are_no_locks_another_place_is_to_be_named(tmp_path, monkeypatch):
    def no_locks(file, how):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(file_lock.fcntl, "flock", no_locks)
    for held in (lock, holder):
        with pytest.raises(ConfigError, match=r"; put run-folder or results-dir elsewhere$"):
            held(tmp_path)
