"""The command line: exit statuses, one sentence for a mistake, and no folder that pretends to be a run."""

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file
from small_run import SMALL, npz, only_folder, run

from fedhpro_flwr.cli import main
from fedhpro_flwr.commands import run as run_command
from fedhpro_flwr.launch import gpu_share
from fedhpro_flwr.runs.run_folder import read_rounds

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def no_engine(monkeypatch):
    """Fails the test if a run is started."""

    def started(*arguments, **options):
        raise AssertionError("a run was started")

    monkeypatch.setattr(run_command, "_in_process", started)
    monkeypatch.setattr(run_command, "simulate", started)


MISTAKES = [
    (["--set", "local.lrr=1"], "unknown key local.lrr, did you mean local.lr?"),
    (["--set", "rounds=many"], "rounds = 'many': it must be a valid integer"),
    (["--set", "rounds="], "rounds = '': it must be a valid integer"),
    (["--set", "partition.imbalance=0.5"], "partition.imbalance = 0.5: it must be greater than or equal to 1"),
    (["--set", "preset=old"], "preset = 'old': allowed are 'paper', 'reference', 'tuned'"),
    (["--set", "clients.per-round=99"], "clients.per-round = 99: only 3 clients exist, see partition.num-partitions"),
    (["--set", "rounds"], "--set rounds: write it as key=value"),
    (["--set", "rounds.x=3"], "unknown key rounds.x: rounds is a value and has no keys below it"),
    (["--set", "seed=4294967296"], "seed = 4294967296: it must be less than or equal to 4294967295"),
    (["--set", "partition={alpha=1}"], "partition = '{alpha=1}': partition is a section with keys of its own"),
    (["--restarts=0"], "--restarts is for a run on a deployed SuperLink; name it with --superlink"),
    (["--detach"], "--detach is for a run on a deployed SuperLink; name it with --superlink"),
    (["nosuch"], "there is no file nosuch, and no experiment of that name; there are "),
    (["nosuch.toml"], "there is no file nosuch.toml, and no experiment of that name"),
]


@pytest.mark.parametrize(("arguments", "sentence"), MISTAKES, ids=[" ".join(case[0]) for case in MISTAKES])
def test_a_mistake_ends_with_2_and_a_sentence_and_leaves_nothing(arguments, sentence, tmp_path, capsys, no_engine):
    files = [word for word in arguments if not word.startswith("--") and arguments[0] != "--set"]
    settings = SMALL | {"results-dir": str(tmp_path / "results")}
    flags = [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]
    changes = [word for word in arguments if word not in files]
    assert main(["run", *files, *flags, *changes, "--engine", "in-process"]) == 2
    told = capsys.readouterr()
    assert told.out == "" and told.err.startswith("fedhpro: ")
    assert sentence in told.err
    assert told.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"rounds = ", "is not TOML: "),
        (b"\xff\xfe", "is not TOML: "),
        (b"roundz = 1", "roundz"),
        (b"\xef\xbb\xbfroundz = 1\r\n", "roundz"),  # as some editors begin and end lines
        (b"[local.lr]\nx = 1", "unknown key local.lr.x: local.lr is a value and has no keys below it"),
    ],
)
def test_a_bad_file_ends_with_2_and_names_it(content, sentence, tmp_path, capsys, no_engine):
    path = tmp_path / "mine.toml"
    path.write_bytes(content)
    assert run(tmp_path / "results", str(path)) == 2
    assert sentence in capsys.readouterr().err
    assert not (tmp_path / "results").exists()


def test_a_folder_that_cannot_be_made_ends_with_2_and_names_the_key(tmp_path, capsys, no_engine):
    file = tmp_path / "file"
    file.write_text("")
    assert run(file) == 2
    assert capsys.readouterr().err == f"fedhpro: results-dir = '{file}': {file} is a file; name another folder\n"
    for folder in (file, file / "below"):
        assert run(tmp_path, run_folder=folder) == 2
        assert f"fedhpro: run-folder = '{folder}': {file} is a file; name another f" in capsys.readouterr().err


def test_a_resumed_run_with_a_damaged_line_ends_with_2_and_names_it(tmp_path, capsys):
    assert run(tmp_path) == 0
    folder = only_folder(tmp_path)
    (folder / "metrics.jsonl").write_text("[1]\n")
    assert main(["run", "--resume", str(folder), "--set", "rounds=2", "--engine", "in-process"]) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last == (
        f"fedhpro: resume = {str(folder)!r}: no checkpoint is left to go on from, "
        f"{folder / 'metrics.jsonl'}, line 1 cannot be read: "
        "it is no report of a round (it must be an object); begin a new run"
    )


def test_a_finished_run_is_not_written_over(tmp_path, capsys, no_engine):
    (tmp_path / "summary.json").write_text("{}")
    assert run(tmp_path, run_folder=tmp_path) == 2
    assert "holds a finished run" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["summary.json"]


@pytest.mark.parametrize("arguments", [[], ["walk"], ["run", "--engine", "steam"], ["run", "--rounds", "3"]])
def test_argparse_refuses_with_2(arguments, capsys):
    with pytest.raises(SystemExit) as left:
        main(arguments)
    assert left.value.code == 2


def test_a_run_from_beginning_to_end(tmp_path, capsys, pictures):
    assert run(tmp_path) == 0
    folder = only_folder(tmp_path)
    assert {path.name for path in folder.iterdir()} == {
        "config.toml",
        "partition.json",
        "metrics.jsonl",
        "model.safetensors",
        "hyper-prototypes.safetensors",
        "prototypes.safetensors",
        "curves.png",
        "summary.json",
        "checkpoint",
        ".writer",
    }
    said = capsys.readouterr().out
    assert f"results in {folder}" in said
    assert "mean of last ten" in said
    assert (folder / "curves.png").read_bytes().startswith(b"\x89PNG")
    (line,) = read_rounds(folder)
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["accuracy"]["best"] == line["tested"]["accuracy"]
    assert summary["last-round"] == line["tested"]
    assert len(summary["clients"]) == len(line["clients"]) == 3
    assert load_file(folder / "hyper-prototypes.safetensors")["hyper-prototypes"].shape == (10, 5, 8)
    # its own config.toml gives the same run
    again = tmp_path / "again"
    assert run(tmp_path, str(folder / "config.toml"), run_folder=again) == 0
    assert (again / "model.safetensors").read_bytes() == (folder / "model.safetensors").read_bytes()


@pytest.mark.parametrize("preset", ["paper", "reference", "tuned"])
@pytest.mark.parametrize("method", ["fedhpro", "fedavg"])
def test_every_method_and_preset_runs(preset, method, tmp_path):
    assert run(tmp_path, preset=preset, method__name=method) == 0
    assert (only_folder(tmp_path) / "hyper-prototypes.safetensors").exists() == (method == "fedhpro")


def test_own_data_runs(tmp_path):
    assert run(tmp_path, data__name="npz", data__path=npz(tmp_path / "my.npz"), data__train_limit=0) == 0


@pytest.mark.parametrize(
    ("key", "name", "sentence"),
    [
        ("data__name", "imagenet", "data.name = 'imagenet' is unknown, there are: "),
        ("model__name", "vgg", "model.name = 'vgg' is unknown, there are: cnn, "),
        ("model__groups", "vgg=3", "model.name = 'vgg' is unknown, there are: cnn, "),
        ("method__name", "fedsgd", "method.name = 'fedsgd' is unknown, there are: averaged, creff, fedavg, fedhpro, "),
    ],
)
def test_an_unknown_name_lists_what_exists_and_nothing_starts(key, name, sentence, tmp_path, capsys):
    assert run(tmp_path, **{key: name}) == 2
    assert sentence in " ".join(capsys.readouterr().err.split())
    assert list(tmp_path.iterdir()) == []


def test_ctrl_c_ends_with_130(tmp_path, capsys, monkeypatch):
    def stopped(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(run_command, "_in_process", stopped)
    assert run(tmp_path) == 130
    assert capsys.readouterr().err.splitlines()[-1] == "fedhpro: stopped"


def full_disk():
    return open("/dev/full", "w", encoding="utf-8")


def ended_reader():
    reader, writer = os.pipe()
    os.close(reader)
    return open(writer, "w", encoding="utf-8")


@pytest.mark.parametrize(
    ("stdout", "said"),
    [
        (full_disk, f"the output cannot be written ({os.strerror(errno.ENOSPC)}): the run goes on unshown"),
        (ended_reader, ""),
    ],
)
def test_a_run_whose_output_cannot_be_written_ends_as_well_as_it_does(stdout, said, tmp_path, capsys, monkeypatch):
    with stdout() as output:  # closing it writes what is left, as Python does when it ends
        monkeypatch.setattr(sys, "stdout", output)
        assert run(tmp_path) == 0
    assert (only_folder(tmp_path) / "summary.json").exists()
    assert [line for line in capsys.readouterr().err.splitlines() if "fedhpro: " in line] == (
        [f"fedhpro: {said}"] if said else []
    )


def test_the_engine_gets_every_setting_and_the_folder(tmp_path, monkeypatch):
    seen = {}

    def simulate(settings, *, num_nodes, log_file, gpus):
        seen.update(settings, nodes=num_nodes, log=log_file, gpus=gpus)
        raise run_command.LaunchError("enough")

    monkeypatch.setattr(run_command, "simulate", simulate)
    monkeypatch.setattr(gpu_share, "_has_gpu", lambda: True)
    assert run(tmp_path, "--gpus-per-client", "0.5", engine="ray") == 1
    folder = only_folder(tmp_path)
    assert (seen["nodes"], seen["gpus"], seen["log"]) == (3, 0.5, folder / "flower.log")
    assert (seen["run-folder"], seen["clients.num-nodes"], seen["rounds"]) == (str(folder), 3, 1)


def test_as_a_process(tmp_path):
    def process(*arguments):
        return subprocess.run(
            [sys.executable, "-m", "fedhpro_flwr.cli", *arguments],
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=120,
        )

    wrong = process("run", "--set", "rounds=0")
    assert (wrong.returncode, wrong.stderr) == (2, "fedhpro: rounds = 0: it must be greater than or equal to 1\n")
    assert wrong.stdout == ""
    assert list(tmp_path.iterdir()) == []


def test_a_file_of_another_method_is_not_ablated(tmp_path, capsys):
    conf = tmp_path / "mine.toml"
    conf.write_text('[method]\nname = "moon"\n')
    assert main(["ablate", str(conf), "--seeds", "0", "--folder", str(tmp_path / "grid")]) == 2
    said = f"fedhpro: {conf} says method.name = 'moon', and these rows are FedHPro's parts and FedAvg: take it out of"
    assert capsys.readouterr().err.startswith(said)
    assert not (tmp_path / "grid").exists()
