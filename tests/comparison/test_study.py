"""Whole grids on a few digits: interrupted and continued, with cells that fail, crash or are killed."""

import csv
import io
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from faulty_grid import Clock
from rich.console import Console

from fedhpro_flwr.cli import main
from fedhpro_flwr.comparison import study
from fedhpro_flwr.comparison.child_process import locked
from fedhpro_flwr.comparison.grid import build_grid
from fedhpro_flwr.comparison.rows import read_columns, read_rows
from fedhpro_flwr.comparison.study import Progress, Study, duration, read_runs
from fedhpro_flwr.comparison.workers import Outcome
from fedhpro_flwr.config import ConfigError
from fedhpro_flwr.launch import gpu_share
from fedhpro_flwr.runs.run_folder import read_rounds

ROOT = Path(__file__).resolve().parents[2]
SMALL = ("rounds=1", "data.train-limit=200", "partition.num-partitions=2", "model.name=mlp", "local.epochs=1")
COSTS = ("seconds", "client-seconds", "server-seconds")  # differ from run to run


def words(folder, methods="fedavg,fedhpro", *more, command="compare"):
    settings = [word for change in SMALL for word in ("--set", change)]
    named = ["--methods", methods] if command == "compare" else []
    return [
        command,
        "digits",
        *named,
        "--seeds",
        "0,1",
        "--engine",
        "in-process",
        "--folder",
        str(folder),
        *settings,
        *more,
    ]


def process(*arguments):
    """`fedhpro` as a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "fedhpro_flwr.cli", *arguments],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def wait_for(path):
    wait_until(path.exists)


def wait_until(ready, seconds=60):
    deadline = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def numbers(folder):
    """table.csv without what a clock measured."""
    with (folder / "table.csv").open() as file:
        return [line for line in csv.DictReader(file) if line["measure"] not in COSTS]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A grid that nobody interrupts."""
    folder = tmp_path_factory.mktemp("whole")
    assert main(words(folder)) == 0
    return folder


def test_a_grid_from_beginning_to_end(whole, capsys):
    assert {path.name for path in whole.iterdir()} == {
        ".lock", "fedavg", "fedhpro", "table.csv", "runs.csv", "table.md", "table.tex",
    }  # fmt: skip
    with (whole / "runs.csv").open() as file:
        runs = list(csv.DictReader(file))
    assert [(run["method"], run["seed"], run["state"]) for run in runs] == [
        ("fedavg", "0", "finished"), ("fedhpro", "0", "finished"),
        ("fedavg", "1", "finished"), ("fedhpro", "1", "finished"),
    ]  # fmt: skip
    (mean,) = (line for line in numbers(whole) if (line["method"], line["measure"]) == ("fedavg", "mean-of-last-ten"))
    own = [float(run["mean-of-last-ten"]) for run in runs if run["method"] == "fedavg"]
    assert float(mean["mean"]) == pytest.approx(sum(own) / 2)
    # Again: nothing is run, and the table is the same to the last digit.
    before = (whole / "table.csv").read_bytes()
    assert main(words(whole)) == 0
    assert "4 runs, 0 to do" in capsys.readouterr().out
    assert (whole / "table.csv").read_bytes() == before


def test_a_run_of_a_grid_is_the_run_that_its_config_gives(whole, tmp_path):
    config = str(whole / "fedhpro" / "seed-1" / "config.toml")
    assert main(["run", config, "--engine", "in-process", "--set", f"run-folder={tmp_path / 'again'}"]) == 0
    assert (tmp_path / "again" / "model.safetensors").read_bytes() == (
        whole / "fedhpro" / "seed-1" / "model.safetensors"
    ).read_bytes()


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the child of a killed grid finishes its run first")
def test_tables_that_are_replaced_are_not_lost(whole, capsys):
    tables = {name: (whole / name).read_bytes() for name in ("table.csv", "runs.csv", "table.md", "table.tex")}
    capsys.readouterr()
    assert main(words(whole, "fedhpro")) == 0
    assert capsys.readouterr().out.endswith(
        "those before had runs that these have not (fedavg seed 0, fedavg seed 1): the runs stay, and the command that "
        "made those tables writes them again at once\n"
    )
    assert main(words(whole)) == 0
    assert "those before" not in capsys.readouterr().out
    assert tables == {name: (whole / name).read_bytes() for name in tables}


def test_killed_and_begun_again_it_gives_the_same_table(whole, tmp_path, capsys):
    killed = process(*words(tmp_path))
    wait_for(tmp_path / "fedavg" / "seed-0" / "summary.json")
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    assert not (tmp_path / "table.csv").exists()
    assert main(words(tmp_path)) == 0
    said = capsys.readouterr().out
    assert "4 runs, 4 to do" not in said
    assert numbers(tmp_path) == numbers(whole)


def test_a_run_that_was_stopped_goes_on_from_its_checkpoint_to_the_same_bits(tmp_path, capsys):
    chosen = words(tmp_path / "grid", "fedhpro", "--seeds", "0", "--set", "rounds=20")
    folder = tmp_path / "grid" / "fedhpro" / "seed-0"
    stopped = process(*chosen)
    wait_until(lambda: len(read_rounds(folder)) >= 3)
    stopped.send_signal(signal.SIGKILL)
    stopped.communicate()
    assert not (folder / "summary.json").exists()
    assert main(chosen) == 0
    goes_on = re.search(r"goes on after round (\d+) in", (folder / "run.log").read_text())
    assert goes_on is not None and int(goes_on[1]) >= 2
    told = rf"^1/1 digits fedhpro seed 0: .* % \(\d+ s, went on after round {goes_on[1]}\)$"
    assert re.search(told, capsys.readouterr().out, flags=re.M)
    config = str(folder / "config.toml")
    assert main(["run", config, "--engine", "in-process", "--set", f"run-folder={tmp_path / 'whole'}"]) == 0
    for name in ("model.safetensors", "hyper-prototypes.safetensors"):
        assert (tmp_path / "whole" / name).read_bytes() == (folder / name).read_bytes()


def test_ctrl_c_stops_the_children_and_leaves_what_is_finished(tmp_path):
    stopped = process(*words(tmp_path, "fedavg,fedhpro", "--set", "rounds=500"))
    wait_for(tmp_path / "fedavg" / "seed-0" / "metrics.jsonl")
    stopped.send_signal(signal.SIGINT)
    said, _ = stopped.communicate(timeout=30)
    assert stopped.returncode == 130
    assert said.endswith("fedhpro: stopped\n")
    with locked(tmp_path, seconds=0):  # no child holds it any more
        pass
    assert not (tmp_path / "table.csv").exists()


@pytest.mark.skipif(sys.platform != "linux", reason="looks for the child in /proc")
def test_a_cell_that_is_killed_or_fails_takes_no_other_with_it(tmp_path):
    killed, failing = "fedhpro:rounds=500", "fedhpro:partition.num-partitions=500"
    grid = process(*words(tmp_path, f"{killed},{failing},fedavg", "--seeds", "0"))
    folder = tmp_path / "fedhpro-rounds=500" / "seed-0"
    wait_for(folder / "metrics.jsonl")
    (child,) = Path(f"/proc/{grid.pid}/task/{grid.pid}/children").read_text().split()
    os.kill(int(child), signal.SIGKILL)
    said, _ = grid.communicate(timeout=60)
    assert grid.returncode == 1
    assert f"failed: {killed} seed 0: its process was ended by SIGKILL, see {folder / 'run.log'}" in said
    assert f"failed: {failing} seed 0: partition.num-partitions = 500, but there are only 200 training samples" in said
    assert "left out" not in said  # each is told once
    last = {line["method"]: line["n"] for line in numbers(tmp_path) if line["measure"] == "last"}
    assert last == {killed: "0", failing: "0", "fedavg": "1"}
    page = (tmp_path / "table.md").read_text()
    assert f"| {killed} | – |" in page
    assert f"- {failing} seed 0: partition.num-partitions = 500" in page


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("fedavg,nosuch",), "nosuch seed 0: method.name = 'nosuch' is unknown, there are: "),
        (("fedavg", "--baseline", "local"), "--baseline local is no row of this grid, there are: fedavg"),
        (("fedavg", "--jobs", "0"), "--jobs 0: at least one run at a time"),
        (("fedavg", "--target", "90"), "--target 90.0: write an accuracy between 0 and 1, as 0.9"),
        (("fedavg", "--vary", "rounds=1,x"), "fedavg rounds=x seed 0: rounds = 'x': it must be a valid integer"),
    ],
)
def test_a_mistake_is_one_sentence_and_nothing_is_left(arguments, sentence, tmp_path, capsys):
    assert main(words(tmp_path / "grid", *arguments)) == 2
    said = capsys.readouterr().err
    assert sentence in said
    assert said.count("\n") == 1
    assert not (tmp_path / "grid").exists()


def test_a_result_of_other_settings_is_refused_before_anything_runs(whole, capsys):
    assert main(words(whole, "fedprox,fedavg", "--set", "local.lr=0.5")) == 2
    said = capsys.readouterr().err
    assert "local.lr = 0.05 (here 0.5); a result of other settings is not mixed in" in said
    assert not (whole / "fedprox").exists()


def test_two_grids_do_not_work_in_one_folder(tmp_path):
    with locked(tmp_path), pytest.raises(ConfigError, match="still works in"), locked(tmp_path, seconds=0):
        pass


def test_an_ablation_from_beginning_to_end(tmp_path, capsys):
    assert main(words(tmp_path, "", "--only", "margin", "--seeds", "0", "--jobs", "2", command="ablate")) == 0
    said = capsys.readouterr().out
    assert "5 runs, 5 to do" in said  # l2-unit is what is set
    lines = {line["method"]: line for line in numbers(tmp_path) if line["measure"] == "last"}
    assert lines["margin l2-unit"]["mean"] == lines["fedhpro"]["mean"] != ""
    assert lines["margin l2-unit"]["difference"] == ""  # the baseline itself
    assert lines["margin none"]["group"] == "margin"


@pytest.mark.parametrize(("seconds", "said"), [(12.4, "12 s"), (60, "1 min"), (5340, "89 min"), (5400, "1.5 h")])
def test_durations(seconds, said):
    assert duration(seconds) == said


def test_how_long_the_rest_takes_is_told_and_why_a_run_has_no_numbers(tmp_path, monkeypatch):
    clock, said = Clock(), io.StringIO()
    monkeypatch.setattr(study, "time", clock)
    rows = read_rows("fedavg,fedprox,moon")
    grid = build_grid("digits-small", [], rows=rows, columns=read_columns([]), seeds=(0,), folder=tmp_path)
    failed, damaged, older = grid.runs
    progress = Progress(Console(file=said), 4, 1)
    for cell, failure in ((failed, "no disk"), (damaged, ""), (older, "")):
        clock.sleep(90)
        cell.folder.mkdir(parents=True)
        (cell.folder / "summary.json").write_text("{}" if cell is older else "[")
        progress.tell(Outcome(cell, 75, failure))
    assert said.getvalue().splitlines() == [
        "2/4 digits-small fedavg seed 0: failed: no disk (75 s), about 3 min left",
        "3/4 digits-small fedprox seed 0: – (75 s), about 2 min left",
        "4/4 digits-small moon seed 0: – (75 s)",
    ]
    numbers, missing = read_runs(grid, {failed.folder: "no disk"})
    assert (numbers, missing["fedavg", "", 0]) == ({}, "no disk")
    assert missing["fedprox", "", 0].startswith(f"{damaged.folder} is damaged (summary.json: ")
    assert missing["moon", "", 0].startswith(f"{older.folder} is damaged (metrics.jsonl has 0 of 25 rounds); delete it")
    assert (Study({}, missing).status, Study({}, {}).status) == (1, 0)


@pytest.mark.parametrize("command", ["compare", "ablate"])
def test_a_file_in_the_place_of_the_folder_and_a_method_beside_the_rows_are_refused(command, tmp_path, capsys):
    file = tmp_path / "file"
    file.write_text("")
    assert main(words(file, command=command)) == 2
    assert capsys.readouterr().err == f"fedhpro: --folder {file}: {file} is a file; name another folder\n"
    assert main(words(tmp_path / "grid", "fedavg,fedhpro", "--set", "method.name=fedavg", command=command)) == 2
    assert capsys.readouterr().err.startswith("fedhpro: --set: method.name cannot be set in a grid whose rows all set")
    assert not (tmp_path / "grid").exists()


def test_a_gpu_that_is_not_there_is_named_before_the_first_run(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(gpu_share, "_has_gpu", lambda: False)
    assert main(words(tmp_path, "fedavg,fedhpro:device=cuda")) == 2
    refused = (
        "fedhpro: fedhpro:device=cuda seed 0: device = 'cuda': torch sees no CUDA device here; use 'cpu' or 'auto'"
    )
    assert capsys.readouterr().err == f"{refused}; nothing was started\n"
    assert not list(tmp_path.rglob("metrics.jsonl"))


def test_runs_on_a_file_that_has_changed_are_told_and_left_out(tmp_path, capsys):
    def compared(value, methods):
        np.savez(tmp_path / "mine.npz", images=np.full((60, 4, 4), value, np.uint8), labels=np.arange(60) % 3)
        own = ("--set", "data.name=npz", "--set", f"data.path={tmp_path / 'mine.npz'}", "--set", "data.train-limit=0")
        status = main(words(tmp_path / "grid", methods, *own))
        return status, capsys.readouterr().err

    assert compared(1, "fedavg")[0] == 0
    status, said = compared(2, "fedavg,fedhpro")
    assert status == 1
    assert said.count("on other samples than fedhpro seed") == 2
    shown = {line["method"] for line in numbers(tmp_path / "grid") if line["measure"] == "last" and line["mean"]}
    assert shown == {"fedhpro"}
    for seed in (0, 1):
        shutil.rmtree(tmp_path / "grid" / "fedavg" / f"seed-{seed}")
    assert compared(2, "fedavg,fedhpro")[0] == 0
