"""The command line: exit statuses, one sentence for a mistake, and no folder that pretends to be a run."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file

from fedhpro_flwr.cli import main
from fedhpro_flwr.commands import run as run_command
from fedhpro_flwr.launch import gpu_share
from fedhpro_flwr.run_folder import read_rounds
from fedhpro_flwr.settings import prepare, read_settings

ROOT = Path(__file__).resolve().parents[1]
SMALL = {
    "rounds": 1,
    "partition.num-partitions": 3,
    "data.train-limit": 120,
    "local.epochs": 1,
    "model.name": "mlp",
    "model.width": 8,
    "hyper-prototypes.matching-steps": 2,
}


def run(folder, *arguments, engine="in-process", **changes):
    """Exit status of `fedhpro run` with small settings."""
    settings = SMALL | {"results-dir": str(folder)} | {key.replace("__", "."): value for key, value in changes.items()}
    flags = [word for key, value in settings.items() for word in ("--set", f"{key.replace('_', '-')}={value}")]
    return main(["run", *arguments, *flags, "--engine", engine])


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
    (["--set", "partition={alpha=1}"], "partition = '{alpha=1}': partition is a section with keys of its own"),
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
    said = capsys.readouterr().out
    assert said.startswith("fedhpro: ")
    assert sentence in said
    assert said.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("content", "sentence"),
    [(b"rounds = ", "is not TOML: "), (b"\xff\xfe", "is not TOML: "), (b"roundz = 1", "roundz")],
)
def test_a_bad_file_ends_with_2_and_names_it(content, sentence, tmp_path, capsys, no_engine):
    path = tmp_path / "mine.toml"
    path.write_bytes(content)
    assert run(tmp_path / "results", str(path)) == 2
    assert sentence in capsys.readouterr().out
    assert not (tmp_path / "results").exists()


def test_a_folder_that_cannot_be_made_ends_with_2(tmp_path, capsys, no_engine):
    (tmp_path / "file").write_text("")
    assert run(tmp_path / "file") == 2
    assert "file" in capsys.readouterr().out


def test_a_finished_run_is_not_written_over(tmp_path, capsys, no_engine):
    (tmp_path / "summary.json").write_text("{}")
    assert run(tmp_path, run_folder=tmp_path) == 2
    assert "holds a finished run" in capsys.readouterr().out
    assert [path.name for path in tmp_path.iterdir()] == ["summary.json"]


@pytest.mark.parametrize("arguments", [[], ["walk"], ["run", "--engine", "steam"], ["run", "--rounds", "3"]])
def test_argparse_refuses_with_2(arguments, capsys):
    with pytest.raises(SystemExit) as left:
        main(arguments)
    assert left.value.code == 2


@pytest.mark.parametrize(
    ("change", "key", "value"),
    [
        ("rounds=3", "rounds", 3),
        ("local.lr=1e-3", "local.lr", 0.001),
        ("local.flip=false", "local.flip", False),
        ("data.path=a=b", "data.path", "a=b"),
        ('data.path="3"', "data.path", "3"),
        ("data.path=/some where/x.npz", "data.path", "/some where/x.npz"),
        (" rounds = 3 ", "rounds", 3),
        ("data.path=[1]", "data.path", "[1]"),
        ("data.path=2020-01-01", "data.path", "2020-01-01"),
        ("data.path=", "data.path", ""),
        ("data.path=x\ny = 1", "data.path", "x\ny = 1"),
    ],
)
def test_set_reads_toml_values_or_bare_text(change, key, value):
    settings = read_settings(None, [change])
    assert settings[key] == value
    assert type(settings[key]) is type(value)


def test_set_wins_over_the_file_which_wins_over_the_defaults(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text("rounds = 7\n[local]\nepochs = 2\nbatch-size = 9\n")
    settings = read_settings(str(path), ["local.epochs=3", "local.epochs=4"])
    assert (settings["rounds"], settings["local.epochs"], settings["local.batch-size"]) == (7, 4, 9)
    assert settings["local.lr"] == 0.05


@pytest.mark.parametrize("name", ["digits", "digits.toml", str(ROOT / "conf" / "digits.toml")])
def test_an_experiment_is_found_by_name_or_path(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert prepare(name, []).experiment == "digits"


def test_paths_are_made_absolute_because_the_apps_run_elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FEDHPRO_DATA_DIR", "sets")
    assert prepare(None, ["data.path=mine.npz"]).data.path == str(tmp_path / "mine.npz")
    assert prepare(None, []).data.root == str(tmp_path / "sets")
    assert prepare(None, ["data.root=here"]).data.root == str(tmp_path / "here")
    assert prepare(None, ["data.path=~/x"]).data.path == str(Path("~/x").expanduser())
    monkeypatch.delenv("FEDHPRO_DATA_DIR")
    assert prepare(None, []).data.root == ""
    own = prepare(None, ["data.weights=w.pth", "model.path=m", "evaluation.alone=a", "clients.state-path=s"])
    named = (own.data.weights, own.model.path, own.evaluation.alone, own.clients.state_path)
    assert named == tuple(str(tmp_path / name) for name in ("w.pth", "m", "a", "s"))
    assert prepare(None, []).data.tokenizer == "hashing"
    assert prepare(None, ["data.tokenizer=bert"]).data.tokenizer == str(tmp_path / "bert")


def only_folder(results):
    (folder,) = (results / "digits").iterdir()
    return folder


def test_a_run_from_beginning_to_end(tmp_path, capsys):
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


def npz(path, samples=40):
    draw = np.random.default_rng(0)
    np.savez(path, images=draw.random((samples, 6)).astype(np.float32), labels=np.arange(samples) % 4)
    return path


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
    assert sentence in " ".join(capsys.readouterr().out.split())
    assert list(tmp_path.iterdir()) == []


FAILURES = [
    ({"data__name": "npz", "data__path": "/no/such.npz"}, "data.path = '/no/such.npz' does not exist"),
    ({"data__name": "npz"}, "data.name = 'npz' needs data.path"),
    ({"data__name": "mnist", "data__root": "/no/such/folder"}, "/no/such/folder"),
    ({"partition__num_partitions": 500}, "partition.num-partitions = 500, but there are only 120 training samples"),
    ({"partition__num_partitions": 61, "partition__scheme": "iid"}, "partition.min-samples = 2"),
    ({"seed": 2**33}, "seed"),
]


@pytest.mark.parametrize(("changes", "sentence"), FAILURES, ids=[str(list(case[0].values())[-1]) for case in FAILURES])
def test_what_only_the_server_can_see_ends_with_1_before_any_client(changes, sentence, tmp_path, capsys, monkeypatch):
    from fedhpro_flwr import in_process

    monkeypatch.setattr(
        in_process.InProcessGrid, "push_messages", lambda *_: pytest.fail("a message was sent to a client")
    )
    assert run(tmp_path, **changes) == 1
    said = capsys.readouterr().out
    last = said.splitlines()[-1]
    assert last.startswith("fedhpro: the run failed: ")
    assert sentence in last
    folder = only_folder(tmp_path)
    assert (folder / "failure.txt").read_text() in last
    assert not (folder / "summary.json").exists()
    assert not (folder / "model.safetensors").exists()


def test_dsa_on_vectors_is_refused_before_the_first_round(tmp_path, capsys):
    path = npz(tmp_path / "my.npz")
    assert run(tmp_path, preset="reference", data__name="npz", data__path=path, data__train_limit=0) == 1
    said = capsys.readouterr().out.splitlines()[-1]
    assert said.endswith("failed: class-gradients.augment = 'dsa' needs images; use 'none' for vectors and text")


def test_a_rate_that_breaks_every_model_loses_the_quorum_with_every_clients_reason(tmp_path, capsys):
    assert run(tmp_path, local__lr=1e30) == 1
    said = capsys.readouterr().out.splitlines()[-1]
    assert "round 1: 0 of 3 clients replied well" in said
    assert "client 2: metric train-loss = nan is not finite" in said


def test_an_unexpected_exception_ends_with_1_a_reason_and_a_traceback(tmp_path, capsys, monkeypatch):
    from server_app import app

    def broken(*_):
        raise TypeError("a bug")

    monkeypatch.setattr(app, "draw_curves", broken)
    assert run(tmp_path) == 1
    told = capsys.readouterr()
    assert told.out.splitlines()[-1] == "fedhpro: the run failed: TypeError: a bug"
    assert "Traceback" in told.err
    assert (only_folder(tmp_path) / "failure.txt").read_text() == "TypeError: a bug"


def test_a_failed_run_can_be_begun_anew_in_its_folder(tmp_path, capsys):
    folder = tmp_path / "named"
    assert run(tmp_path, run_folder=folder, partition__num_partitions=500) == 1
    assert run(tmp_path, run_folder=folder) == 0
    assert not (folder / "failure.txt").exists()
    assert len(read_rounds(folder)) == 1


def test_ctrl_c_ends_with_130(tmp_path, capsys, monkeypatch):
    def stopped(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(run_command, "_in_process", stopped)
    assert run(tmp_path) == 130
    assert capsys.readouterr().out.splitlines()[-1] == "fedhpro: stopped"


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
    assert (wrong.returncode, wrong.stdout) == (2, "fedhpro: rounds = 0: it must be greater than or equal to 1\n")
    assert wrong.stderr == ""
    assert list(tmp_path.iterdir()) == []
