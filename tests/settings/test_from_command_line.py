"""Settings from a file and from --set: which wins, what text becomes, and where relative paths lead."""

from pathlib import Path

import pytest

from fedhpro_flwr.config import ConfigError, known_keys
from fedhpro_flwr.settings import from_command_line as settings
from fedhpro_flwr.settings.from_command_line import prepare, read_settings

ROOT = Path(__file__).resolve().parents[2]


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
        ("experiment=2024", "experiment", "2024"),
        ("experiment=1e3", "experiment", "1e3"),
        ("run-folder=7", "run-folder", "7"),
        ("data.domains=true", "data.domains", "true"),
        ("hyper-prototypes.counts=0x10", "hyper-prototypes.counts", "0x10"),
        ("losses.temperature=2", "losses.temperature", 2),
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
    assert prepare(None, ["data.name=npz", "data.path=mine.npz"]).data.path == str(tmp_path / "mine.npz")
    assert prepare(None, []).data.root == str(tmp_path / "sets")
    assert prepare(None, ["data.root=here"]).data.root == str(tmp_path / "here")
    assert prepare(None, ["data.name=npz", "data.path=~/x"]).data.path == str(Path("~/x").expanduser())
    monkeypatch.delenv("FEDHPRO_DATA_DIR")
    assert prepare(None, []).data.root == ""
    paths = ["data.weights=w.pth", "model.path=m", "evaluation.alone=a", "clients.state-path=s"]
    own = prepare(None, ["data.name=sun397", *paths])
    named = (own.data.weights, own.model.path, own.evaluation.alone, own.clients.state_path)
    assert named == tuple(str(tmp_path / name) for name in ("w.pth", "m", "a", "s"))
    assert prepare(None, []).data.tokenizer == "hashing"
    assert prepare(None, ["data.name=npz", "data.path=hashing"]).data.path == str(tmp_path / "hashing")
    assert prepare(None, ["data.name=text-csv", "data.tokenizer=bert"]).data.tokenizer == str(tmp_path / "bert")


def test_a_path_of_bytes_that_are_no_utf8_is_refused_by_name():
    with pytest.raises(ConfigError, match=r"^data\.path = '/data/\\xff': bytes that are no UTF-8; rename the file"):
        prepare(None, ["data.path=/data/\udcff"])


def test_a_setting_that_the_data_set_ignores_is_refused_before_a_folder_is_made():
    with pytest.raises(ConfigError, match=r"^data\.image-size = 32: data set 'digits' does not use it; leave it out$"):
        prepare(None, ["data.image-size=32"])


def test_a_setting_that_somebody_added_without_its_default_is_named(monkeypatch):
    monkeypatch.setattr(settings, "known_keys", lambda: (*known_keys(), "mine.weight"))
    with pytest.raises(ConfigError, match=r"^mine\.weight has no default in .*pyproject\.toml: add weight under"):
        read_settings(None, [])
