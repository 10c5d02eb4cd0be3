"""Resuming: a run that is made longer, brought to its end, or goes on after a damaged checkpoint."""

import json
import shutil
from logging import WARNING

import pytest
from safetensors.torch import load_file
from three_rounds import SMALL, outcome, run

from fedhpro_flwr import engine
from fedhpro_flwr.config import ConfigError, RunConfig
from fedhpro_flwr.launch.in_process import run_in_process
from fedhpro_flwr.runs.checkpoints import Checkpoints
from fedhpro_flwr.runs.prototype_trace import PrototypeTrace
from fedhpro_flwr.runs.resume import open_run, refuse_other_settings, resumed
from server_app.strategy import FedHProStrategy


def test_a_run_made_longer_is_the_longer_run(finished, three_rounds, tmp_path, capsys):
    assert run(**SMALL | {"run-folder": tmp_path / "five", "rounds": 5}) == 0
    capsys.readouterr()
    assert run("--resume", finished, rounds=5) == 0
    said = capsys.readouterr().out
    assert f"goes on after round 3 in {finished}" in said
    assert [line.split()[0] for line in said.splitlines() if line.startswith("    ") and "B   " in line] == ["4", "5"]
    assert outcome(finished) == outcome(tmp_path / "five")
    assert outcome(finished) != outcome(three_rounds)
    settings = [(folder / "config.toml").read_text() for folder in (finished, tmp_path / "five")]
    assert settings[0].replace(str(finished), str(tmp_path / "five")) == settings[1]
    assert load_file(finished / "prototypes.safetensors")["rounds"].tolist() == [1, 2, 3, 4, 5]


def test_a_run_that_was_stopped_after_its_last_round_is_brought_to_its_end(stopped, three_rounds):
    before = (stopped / "metrics.jsonl").read_bytes()
    (stopped / "failure.txt").write_text("somebody pulled the plug")
    (stopped / "model.safetensors").unlink()
    assert run("--resume", stopped) == 0
    assert outcome(stopped) == outcome(three_rounds)
    assert (stopped / "metrics.jsonl").read_bytes() == before  # its seconds too
    assert not (stopped / "failure.txt").exists()


def test_such_a_run_of_different_models_says_whose_they_are(tmp_path):
    folder = tmp_path / "run"
    models = {"model.groups": "cnn=1, mlp=2", "model.share": "head"}
    assert run(**SMALL | models | {"run-folder": folder, "rounds": 1}) == 0
    before = outcome(folder)
    assert set(before["summary"]["clients-tested"]["by_architecture"]) == {"cnn", "mlp"}
    (folder / "summary.json").unlink()
    assert run("--resume", folder) == 0
    assert outcome(folder) == before


def test_of_a_damaged_checkpoint_the_one_before_is_used_and_it_is_said(stopped, three_rounds, capsys):
    newest = stopped / "checkpoint" / "round-3.safetensors"
    newest.write_bytes(newest.read_bytes()[:-1])
    assert run("--resume", stopped) == 0
    told = capsys.readouterr()
    said = told.err
    assert f"fedhpro: {newest} is damaged (" in said and "): the checkpoint before is used" in said
    assert "goes on after round 2" in told.out
    assert outcome(stopped) == outcome(three_rounds)


@pytest.mark.parametrize("left", [b"", b"{\x00\n"], ids=["gone", "damaged"])
def test_of_metrics_that_lack_the_last_round_the_run_goes_on_before_it(stopped, three_rounds, capsys, left):
    metrics = stopped / "metrics.jsonl"
    metrics.write_bytes(b"".join(metrics.read_bytes().splitlines(keepends=True)[:2]) + left)
    assert run("--resume", stopped) == 0
    told = capsys.readouterr()
    said = told.err
    why = f"{metrics}, line 3 cannot be read" if left else f"{metrics} does not hold the 3 rounds that were played"
    assert f"fedhpro: {why}" in said and ": the checkpoint before is used" in said
    assert "goes on after round 2" in told.out
    assert outcome(stopped) == outcome(three_rounds)


def test_a_run_without_a_checkpoint_yet_begins_with_round_1(stopped, three_rounds, capsys):
    shutil.rmtree(stopped / "checkpoint")
    metrics = stopped / "metrics.jsonl"
    metrics.write_text(metrics.read_text().splitlines()[0][:20])
    assert run("--resume", stopped) == 0
    told = capsys.readouterr()
    assert "no checkpoint was written yet: the run begins with round 1" in told.err
    assert f"results in {stopped}" in told.out
    assert outcome(stopped) == outcome(three_rounds)


def test_the_key_resume_does_the_same_without_the_command(stopped, three_rounds, caplog):
    engine.RESIDENT.entries.clear()
    from client_app.app import app as client_app
    from server_app.app import app as server_app

    newest = stopped / "checkpoint" / "round-3.safetensors"
    newest.write_bytes(b"")
    settings = RunConfig.parse(SMALL | {"resume": str(stopped)}).flat()
    with caplog.at_level(WARNING, logger="flwr"):
        run_in_process(server_app, client_app, 3, settings)
    assert outcome(stopped) == outcome(three_rounds)
    assert 'resume = ""' in (stopped / "config.toml").read_text()
    with pytest.raises(ConfigError, match=r"the run was begun with local\.epochs = 1 \(here 2\)"):
        run_in_process(server_app, client_app, 3, settings | {"rounds": 4, "local.epochs": 2})


def test_a_run_goes_on_in_its_own_folder():
    with pytest.raises(ConfigError) as refused:
        RunConfig.parse({"resume": "here", "run-folder": "there"})
    assert str(refused.value) == "resume = 'here': a run goes on in its own folder; leave run-folder = 'there' out"


def test_a_key_that_older_settings_lack_has_its_default():
    begun = {key: value for key, value in RunConfig.parse().flat().items() if key != "moon.mu"}
    refuse_other_settings(begun, RunConfig.parse(), "it")
    with pytest.raises(ConfigError, match=r"moon\.mu = 1\.0 \(here 2\.0\)"):
        refuse_other_settings(begun, RunConfig.parse(moon__mu=2.0), "it")


def test_a_folder_may_be_named_by_a_link_and_from_where_one_is(stopped, tmp_path, monkeypatch):
    """The apps run elsewhere, and go by the folder's one name."""
    (tmp_path / "link").symlink_to(stopped)
    monkeypatch.chdir(tmp_path)
    for named in ("link", "run", str(tmp_path / "link")):
        assert resumed(RunConfig.parse(SMALL | {"resume": named})).config.run_folder == str(stopped.resolve())


def test_the_strategy_of_an_own_app_refuses_them_too(stopped):
    known = resumed(RunConfig.parse(SMALL | {"resume": str(stopped)}))
    longer = RunConfig.parse(known.config.flat() | {"rounds": 9})
    assert FedHProStrategy(longer, resume=known.checkpoint, data=known.checkpoint.about.data).so_far.server_round == 3
    with pytest.raises(ConfigError, match=r"^the data has changed"):
        FedHProStrategy(longer, resume=known.checkpoint)
    strategy = FedHProStrategy(longer, resume=known.checkpoint, data=known.checkpoint.about.data)
    assert strategy.clients.visits.counted == known.checkpoint.about.counted
    assert {name.partition("-")[0] for name in strategy.clients.visits.counted.values()} == {"3"}
    Checkpoints(strategy, PrototypeTrace(strategy, 9, {}), stopped)
    assert {number: {*counted} for number, counted in strategy.clients.visits.saved.items()} == {
        2: {0, 1, 2},
        3: {0, 1, 2},
    }
    other = RunConfig.parse(known.config.flat() | {"local.lr": 0.5})
    with pytest.raises(ConfigError, match=r"^resume: the run was begun with local\.lr = .* \(here 0\.5\)"):
        FedHProStrategy(other, resume=known.checkpoint, data=known.checkpoint.about.data)


def test_a_newer_checkpoint_that_was_damaged_when_the_run_went_on_is_gone_from_then_on(stopped, capsys):
    """Were it read again later, the lines of its rounds would be missing."""
    file = stopped / "checkpoint" / "round-3.safetensors"
    good = file.read_bytes()
    file.write_bytes(good[:100])
    known = resumed(RunConfig.parse(SMALL | {"resume": str(stopped)}))
    strategy = FedHProStrategy(known.config, resume=known.checkpoint, data=known.checkpoint.about.data)
    assert strategy.so_far.server_round == 2
    Checkpoints(strategy, PrototypeTrace(strategy, 3, {}), stopped)
    assert not file.exists() and list(strategy.clients.visits.saved) == [2]


def test_a_run_without_a_checkpoint_keeps_its_name_in_what_clients_keep_of_it(stopped):
    """Their privacy accounts go on: what they sent before has been seen."""
    called = json.loads((stopped / "partition.json").read_text())["run"]
    assert resumed(RunConfig.parse(SMALL | {"resume": str(stopped)})).checkpoint.about.run == called
    shutil.rmtree(stopped / "checkpoint")
    (stopped / "metrics.jsonl").write_text("")
    folder, _, checkpoint = open_run(RunConfig.parse(SMALL | {"resume": str(stopped)}))
    assert (folder.run, checkpoint) == (called, None)


def test_code_that_has_changed_is_said(stopped, monkeypatch):
    monkeypatch.setattr("fedhpro_flwr.runs.resume.code_fingerprint", lambda: "new")
    (warning,) = resumed(RunConfig.parse(SMALL | {"resume": str(stopped)})).warnings
    assert warning == "the code has changed since: what follows may differ from what it would have been"
