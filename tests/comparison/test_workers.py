"""The children of a grid: what they find in a cell's folder, and why a cell failed."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from fedhpro_flwr.comparison import workers
from fedhpro_flwr.comparison.child_process import end
from fedhpro_flwr.comparison.grid import build_grid
from fedhpro_flwr.comparison.rows import read_columns, read_rows
from fedhpro_flwr.comparison.workers import Worker, failure_of, run_cells


def one_cell(folder):
    rows, columns = read_rows("fedavg"), read_columns([])
    return build_grid("digits-small", [], rows=rows, columns=columns, seeds=(0,), folder=folder)


def test_why_a_cell_failed(tmp_path):
    assert failure_of(tmp_path, -9).startswith("its process was ended by SIGKILL, see ")
    assert failure_of(tmp_path, -40).startswith("its process was ended by signal 40, see ")
    assert failure_of(tmp_path, 1).startswith("its process ended with exit status 1, see ")
    (tmp_path / "run.log").write_text("fedhpro: first\nTraceback\nfedhpro: the last sentence\nmore\n")
    assert failure_of(tmp_path, 2) == "the last sentence"
    (tmp_path / "failure.txt").write_text("what the run says")
    assert failure_of(tmp_path, 1) == "what the run says"


def test_the_log_of_an_earlier_attempt_is_no_reason(tmp_path):
    (cell,) = one_cell(tmp_path).runs
    cell.folder.mkdir(parents=True)
    (cell.folder / "run.log").write_text("fedhpro: the run failed: the disk was full\n")
    command = [sys.executable, "-c", "input(); exit(3)"]  # not before it was given the cell
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        worker = Worker(process, 1)
        worker.give(cell)
        assert worker.outcome().failure.startswith("its process ended with exit status 3, see ")


def test_a_child_that_died_while_it_was_idle_costs_its_next_cell_alone(tmp_path):
    (cell,) = one_cell(tmp_path).runs
    process = subprocess.Popen(
        [sys.executable, "-c", "exit(3)"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    process.wait()
    worker = Worker(process, 1)
    worker.give(cell)
    assert worker.outcome().failure.startswith("its process ended with exit status 3, see ")
    assert not worker.is_alive
    end(process)
    process.stdout.close()


def test_a_run_that_failed_is_begun_anew(tmp_path):
    (cell,) = one_cell(tmp_path).runs
    (cell.folder / "checkpoint").mkdir(parents=True)
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        Worker(process, 1).give(cell)
        assert (cell.folder / "checkpoint").exists()
        (cell.folder / "failure.txt").write_text("the disk was full")
        Worker(process, 1).give(cell)
        assert not (cell.folder / "checkpoint").exists() and not (cell.folder / "failure.txt").exists()
        process.stdin.close()


@pytest.mark.parametrize(("keep", "children"), [(True, ["1", "2", "1"]), (False, ["1", "2", "2", "1"])])
def test_a_child_goes_on_with_cells_of_its_number_of_threads(keep, children, tmp_path, monkeypatch):
    rows = read_rows("fedavg,fedprox:clients.threads=2,moon:clients.threads=2,local")
    cells = build_grid("digits-small", [], rows=rows, columns=read_columns([]), seeds=(0,), folder=tmp_path).runs
    begun, told = [], []

    def start_child(command, environment, lock):
        assert (command[-2:], lock) == (["--engine", "ray"], 7)
        assert environment["PYTHONPATH"].split(os.pathsep)[0] == str(Path(__file__).resolve().parents[2])
        script = ["sh", "-c", "while read folder; do echo 0 4; done"]
        child = subprocess.Popen(script, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        begun.append((environment["OMP_NUM_THREADS"], child))
        return child

    monkeypatch.setattr(workers, "start_child", start_child)
    monkeypatch.setattr(workers, "is_finished", lambda cell: cell.row != "local")
    outcomes = run_cells(cells, ["--engine", "ray"], jobs=1, lock=7, tell=told.append, keep=keep)
    assert [threads for threads, _ in begun] == children
    assert all(child.returncode == 0 for _, child in begun)
    assert outcomes == told
    assert [(each.cell, each.after) for each in outcomes] == [(cell, 4) for cell in cells]
    assert [bool(each.failure) for each in outcomes] == [False, False, False, True]  # it has left no summary
