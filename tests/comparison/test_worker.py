"""The child of a grid at work: what it answers, where what a run prints goes, and when it ends."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

# In place of a run: it tells what it was called with, and ends with the status that stands in the cell's folder.
SCRIPT = """
import os, pathlib, sys
from fedhpro_flwr.comparison import worker

def run(words):
    folder = pathlib.Path(words[1]).parent
    print(words)
    sys.stderr.write("a warning")  # which waits for the end of its line, as `words` wait for more
    os.write(1, b"native code\\n")
    return int((folder / "status").read_text())

worker.fedhpro = run
worker.main()
"""


def cell(folder: Path, status: int) -> Path:
    folder.mkdir()
    (folder / "status").write_text(str(status))
    (folder / "run.log").write_text("of an earlier attempt")
    return folder


def served(*cells: Path, parent: int) -> tuple[int, list[str]]:
    """The exit status of a child that is given these cells, and its answers."""
    command = [sys.executable, "-c", SCRIPT, str(parent), "--engine", "ray"]
    lines = "".join(f"{each}\n" for each in cells)
    buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    done = subprocess.run(command, input=lines, stdout=subprocess.PIPE, text=True, env=buffered, timeout=120)
    return done.returncode, done.stdout.splitlines()


def test_each_cell_is_answered_and_has_a_log_of_its_own(tmp_path: Path) -> None:
    """Also what was printed before the end of the line, and by native code."""
    cells = [cell(tmp_path / name, status) for name, status in (("well", 0), ("failed ", 1), ("refused", 2))]
    assert served(*cells, parent=os.getpid()) == (0, ["0 0", "1 0", "2 0"])
    for folder in cells:
        words = ["run", str(folder / "config.toml"), "--engine", "ray"]
        assert (folder / "run.log").read_text() == f"native code\n{words}\na warning"


def test_after_ctrl_c_no_further_cell_is_begun(tmp_path: Path) -> None:
    cells = [cell(tmp_path / "stopped", 130), cell(tmp_path / "next", 0)]
    assert served(*cells, parent=os.getpid()) == (0, ["130 0"])
    assert (tmp_path / "next" / "run.log").read_text() == "of an earlier attempt"


def test_once_its_parent_is_gone_no_further_cell_is_begun(tmp_path: Path) -> None:
    assert served(cell(tmp_path / "next", 0), parent=os.getpid() + 1) == (0, [])
    assert (tmp_path / "next" / "run.log").read_text() == "of an earlier attempt"
