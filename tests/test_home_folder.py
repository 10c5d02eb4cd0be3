"""`~` in settings and options, which the shell does not expand after `key=`."""

from pathlib import Path

import pytest
from small_run import only_folder, run

from fedhpro_flwr.cli import main
from fedhpro_flwr.home_folder import expanded

NOBODY = "~nobody-is-called-so/place"


def test_home_folders_are_filled_in_and_a_name_that_nobody_has_stays(monkeypatch):
    monkeypatch.setenv("HOME", "/home/of/mine")
    assert expanded("~/data") == expanded(Path("~/data")) == Path("/home/of/mine/data")
    assert expanded("~root").is_absolute() and expanded("/a/~/b") == Path("/a/~/b")
    assert expanded(NOBODY) == Path(NOBODY)


@pytest.mark.parametrize("key", ["results-dir", "run-folder"])
def test_a_run_in_the_home_folder_makes_no_folder_called_tilde(key, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    if key == "results-dir":
        assert run("~/results") == 0
        folder = only_folder(tmp_path / "home" / "results")
    else:
        assert run("", run_folder="~/mine") == 0
        folder = tmp_path / "home" / "mine"
    assert (folder / "summary.json").is_file() and not (tmp_path / "~").exists()


COMMANDS = [
    ["run", "--set", f"data.root={NOBODY}", "--set", "data.name=mnist", "--engine", "in-process"],
    ["run", "--set", f"model.path={NOBODY}", "--engine", "in-process"],
    ["run", "--set", "data.name=npz", "--set", f"data.path={NOBODY}", "--engine", "in-process"],
    ["run", "--resume", NOBODY],
    ["run", "--superlink", "127.0.0.1:1", "--root-certificates", NOBODY],
    ["export", NOBODY],
    ["report", NOBODY],
]


@pytest.mark.parametrize("arguments", COMMANDS, ids=[" ".join(words[:3]) for words in COMMANDS])
def test_a_home_folder_of_nobody_is_refused_in_a_sentence_that_names_it(arguments, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) in (1, 2)
    told = capsys.readouterr().err
    assert told.startswith("fedhpro: ") and "nobody-is-called-so" in told and "Traceback" not in told
