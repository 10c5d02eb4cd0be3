"""Resuming: what is refused and how, a damaged checkpoint, a run that is made longer."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from logging import WARNING

import numpy as np
import pytest
import tomli_w
from safetensors.torch import load_file
from small_run import SMALL as ONE_ROUND

from fedhpro_flwr import engine
from fedhpro_flwr.cli import main
from fedhpro_flwr.config import ConfigError, RunConfig
from fedhpro_flwr.launch.in_process import run_in_process
from fedhpro_flwr.runs.checkpoints import Checkpoints
from fedhpro_flwr.runs.folder_lock import lock
from fedhpro_flwr.runs.prototype_trace import PrototypeTrace
from fedhpro_flwr.runs.resume import open_run, refuse_other_data, refuse_other_samples, refuse_other_settings, resumed
from fedhpro_flwr.runs.run_folder import read_rounds
from fedhpro_flwr.server.known_data import known_data
from fedhpro_flwr.settings.flat_keys import nest
from server_app.strategy import FedHProStrategy

SMALL = ONE_ROUND | {"rounds": 3}


def run(*arguments, **settings):
    flags = [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]
    return main(["run", *map(str, arguments), *flags, "--engine", "in-process"])


def without_seconds(value):
    if isinstance(value, dict):
        return {key: without_seconds(inner) for key, inner in value.items() if "seconds" not in key}
    return [without_seconds(inner) for inner in value] if isinstance(value, list) else value


def outcome(folder):
    """What a run leaves, as far as it may not differ."""
    files = {path.name: path.read_bytes() for path in folder.glob("*.safetensors")}
    summary = json.loads((folder / "summary.json").read_text())
    return files | {"rounds": without_seconds(read_rounds(folder)), "summary": without_seconds(summary)}


@pytest.fixture(scope="module")
def three_rounds(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "three"
    assert run(**SMALL | {"run-folder": folder}) == 0
    return folder


@pytest.fixture
def finished(three_rounds, tmp_path):
    """A finished run of three rounds, in a folder that it was not made in."""
    return shutil.copytree(three_rounds, tmp_path / "run")


@pytest.fixture
def stopped(finished):
    """The same, stopped after its third round."""
    (finished / "summary.json").unlink()
    return finished


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
    said = capsys.readouterr().out
    assert f"fedhpro: {newest} is damaged (" in said and "): the one before is used" in said
    assert "goes on after round 2" in said
    assert outcome(stopped) == outcome(three_rounds)


def test_a_run_without_a_checkpoint_yet_begins_with_round_1(stopped, three_rounds, capsys):
    shutil.rmtree(stopped / "checkpoint")
    metrics = stopped / "metrics.jsonl"
    metrics.write_text(metrics.read_text().splitlines()[0][:20])
    assert run("--resume", stopped) == 0
    assert "no checkpoint was written yet: the run begins with round 1" in capsys.readouterr().out
    assert outcome(stopped) == outcome(three_rounds)


def test_a_run_begun_anew_in_its_folder_does_not_find_the_old_checkpoints(stopped, monkeypatch):
    from fedhpro_flwr.runs import resume

    def nothing(*arguments):
        raise ConfigError("no data")

    monkeypatch.setattr("server_app.app.known_data", nothing)
    assert run(**SMALL | {"run-folder": stopped}) == 1
    assert not (stopped / "checkpoint").exists()
    assert resume.newest(stopped).checkpoint is None


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


REFUSED = [
    ({"local.lr": 0.1}, "the run was begun with local.lr = 0.05 (here 0.1); it goes on with its own settings alone"),
    (
        {"seed": 1, "data.test-share": 0.3},
        "the run was begun with seed = 0 (here 1), data.test-share = 0.2 (here 0.3); it goes on with its own settings "
        "alone",
    ),
    ({"checkpoint.every": 2}, "the run was begun with checkpoint.every = 1 (here 2); it goes on with its own"),
    ({"rounds": 2}, "3 rounds were played, rounds = 2 is fewer"),
    ({}, "the run is finished after 3 rounds; to make it longer set more rounds"),
]


@pytest.mark.parametrize(("changes", "sentence"), REFUSED, ids=[", ".join(case[0]) or "nothing" for case in REFUSED])
def test_what_is_refused_and_leaves_the_folder_alone(finished, capsys, changes, sentence):
    before = {path: path.read_bytes() for path in finished.rglob("*") if path.is_file()}
    assert run("--resume", finished, **changes) == 2
    assert f"fedhpro: resume = '{finished}': {sentence}" in " ".join(capsys.readouterr().out.split())
    assert {path: path.read_bytes() for path in finished.rglob("*") if path.is_file()} == before


def test_a_folder_without_a_run_is_refused(tmp_path, capsys):
    assert run("--resume", tmp_path) == 2
    assert "no run was begun there, there is no config.toml" in capsys.readouterr().out
    assert run("--resume", tmp_path, "digits") == 2
    assert "--resume goes on with the settings in its folder; leave digits out" in capsys.readouterr().out
    with pytest.raises(ConfigError, match=r"holds no run that was begun: there is no config\.toml in it"):
        resumed(RunConfig.parse(resume=str(tmp_path)))
    assert list(tmp_path.iterdir()) == []


def test_a_run_goes_on_in_its_own_folder():
    with pytest.raises(ConfigError) as refused:
        RunConfig.parse({"resume": "here", "run-folder": "there"})
    assert str(refused.value) == "resume = 'here': a run goes on in its own folder; leave run-folder = 'there' out"


def test_checkpoints_that_are_gone_or_all_damaged_are_refused(stopped):
    config = RunConfig.parse(SMALL | {"resume": str(stopped)})
    for path in (stopped / "checkpoint").iterdir():
        path.write_bytes(b"")
    with pytest.raises(ConfigError, match=r"no checkpoint is left .*round-3.*round-2.*; delete checkpoint to begin"):
        resumed(config)
    shutil.rmtree(stopped / "checkpoint")
    with pytest.raises(ConfigError, match="its folder checkpoint is gone; begin a new run"):
        resumed(config)
    off = RunConfig.parse(config.flat() | {"checkpoint.every": 0})
    (stopped / "config.toml").write_text(tomli_w.dumps(nest(off.flat())))
    with pytest.raises(ConfigError, match=r"there are no checkpoints, the run has checkpoint\.every = 0"):
        resumed(off)


def test_a_finished_run_whose_checkpoints_are_gone_does_not_begin_again_however_short_it_was(finished):
    seldom = RunConfig.parse(SMALL | {"resume": str(finished), "checkpoint.every": 3})
    (finished / "config.toml").write_text(tomli_w.dumps(nest(seldom.flat())))
    shutil.rmtree(finished / "checkpoint")
    with pytest.raises(ConfigError, match="its folder checkpoint is gone; begin a new run"):
        resumed(seldom)


def test_lost_lines_of_the_metrics_are_refused(stopped):
    metrics = stopped / "metrics.jsonl"
    metrics.write_text("".join(metrics.read_text().splitlines(keepends=True)[1:]))
    with pytest.raises(ConfigError, match=r"metrics\.jsonl does not hold the 3 rounds that were played"):
        resumed(RunConfig.parse(SMALL | {"resume": str(stopped)}))


def test_places_may_differ_and_what_lies_there_may_not():
    begun = RunConfig.parse({"data.path": "/old/set.npz", "data.root": "/old"})
    refuse_other_settings(
        begun.flat(), RunConfig.parse({"data.path": "/new/set.npz", "data.root": "/n", "rounds": 99}), "it"
    )
    with pytest.raises(ConfigError, match=r"^it: the run was begun with data\.path = 'set\.npz' \(here 'other\.npz'\)"):
        refuse_other_settings(begun.flat(), RunConfig.parse({"data.path": "/old/other.npz"}), "it")


def test_a_key_that_older_settings_lack_has_its_default():
    begun = {key: value for key, value in RunConfig.parse().flat().items() if key != "moon.mu"}
    refuse_other_settings(begun, RunConfig.parse(), "it")
    with pytest.raises(ConfigError, match=r"moon\.mu = 1\.0 \(here 2\.0\)"):
        refuse_other_settings(begun, RunConfig.parse(moon__mu=2.0), "it")


def test_other_data_and_other_code(stopped):
    known = resumed(RunConfig.parse(SMALL | {"resume": str(stopped)}))
    assert known.warnings == () and known.rounds_before == 3
    refuse_other_data(known.checkpoint, known.checkpoint.about.data)
    with pytest.raises(ConfigError, match=r"the data has changed: .* this is f00d"):
        refuse_other_data(known.checkpoint, "f00d")


def test_other_samples_at_the_same_places(stopped):
    table = json.loads((stopped / "partition.json").read_text())
    refuse_other_samples(stopped, table["content"])
    with pytest.raises(ConfigError, match=r"^the data has changed: the run was begun with samples \w{16}, these"):
        refuse_other_samples(stopped, "f00d")
    (stopped / "partition.json").write_text(json.dumps({key: table[key] for key in table if key != "content"}))
    refuse_other_samples(stopped, "f00d")  # of a release that did not write it


def test_the_command_does_not_go_on_with_a_file_that_was_changed(tmp_path, capsys, monkeypatch):
    def write(value):
        pixels = np.full((60, 4, 4), value, np.uint8)
        np.savez(tmp_path / "mine.npz", images=pixels, labels=np.arange(60) % 3)

    write(1)
    own = {"data.name": "npz", "data.path": tmp_path / "mine.npz", "data.train-limit": 0}
    own["run-folder"] = tmp_path / "run"
    assert run(**SMALL | own) == 0
    write(2)
    monkeypatch.setattr(engine, "RESIDENT", engine.Resident())  # another process reads the file anew
    assert run("--resume", tmp_path / "run", rounds=4) == 1
    assert "the run failed: the data has changed: the run was begun with samples" in capsys.readouterr().out


def test_a_run_on_other_data_is_refused_before_its_folder_is_touched(stopped, tmp_path, monkeypatch):
    """Also where the samples were not written down, as by a release that did not: by the partition alone."""
    table = json.loads((stopped / "partition.json").read_text())
    (stopped / "partition.json").write_text(json.dumps({key: table[key] for key in table if key != "content"}))
    before = {path: path.read_bytes() for path in stopped.rglob("*") if path.is_file()}
    known = replace(known_data(RunConfig.parse(SMALL)), fingerprint="f00d")
    monkeypatch.setattr("fedhpro_flwr.runs.resume.known_data", lambda _: known)
    with pytest.raises(ConfigError, match=r"^the data has changed: .* this is f00d"):
        open_run(RunConfig.parse(SMALL | {"resume": str(stopped)}))
    assert {path: path.read_bytes() for path in stopped.rglob("*") if path.is_file()} == before


def test_a_folder_may_be_named_by_a_link_and_from_where_one_is(stopped, tmp_path, monkeypatch):
    """The apps run elsewhere, and go by the folder's one name."""
    (tmp_path / "link").symlink_to(stopped)
    monkeypatch.chdir(tmp_path)
    for named in ("link", "run", str(tmp_path / "link")):
        assert resumed(RunConfig.parse(SMALL | {"resume": named})).config.run_folder == str(stopped.resolve())


def test_the_strategy_of_an_own_app_refuses_them_too(stopped):
    known = resumed(RunConfig.parse(SMALL | {"resume": str(stopped)}))
    longer = RunConfig.parse(known.config.flat() | {"rounds": 9})
    assert FedHProStrategy(longer, resume=known.checkpoint, data=known.checkpoint.about.data).so_far.rounds_before == 3
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
    assert strategy.so_far.rounds_before == 2
    Checkpoints(strategy, PrototypeTrace(strategy, 3, {}), stopped)
    assert not file.exists() and list(strategy.clients.visits.saved) == [2]


def test_a_refusal_leaves_the_summary_of_a_finished_run(finished, capsys):
    before = {path: path.read_bytes() for path in finished.rglob("*") if path.is_file()}
    assert run("--resume", finished, rounds=4, **{"evaluation.alone": "/wrong"}) == 2
    assert "evaluation.alone = '/wrong' holds no finished run" in capsys.readouterr().out
    assert {path: path.read_bytes() for path in finished.rglob("*") if path.is_file()} == before


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


def test_a_run_that_another_process_still_plays_is_refused_and_left_as_it_is(stopped, capsys):
    script = f"import fcntl, sys; file = open({str(stopped / '.writer')!r}, 'ab'); fcntl.lockf(file, fcntl.LOCK_EX)"
    script += "; print('locked', flush=True); sys.stdin.read()"
    other = subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert other.stdout.readline() == b"locked\n"
        with pytest.raises(ConfigError, match="another process still writes this run; wait for it or stop it"):
            resumed(RunConfig.parse(SMALL | {"resume": str(stopped)}))
        metrics = (stopped / "metrics.jsonl").read_bytes()
        assert run(**SMALL | {"run-folder": stopped}) == 2  # begun anew in the same folder
        assert "another process still writes this run" in capsys.readouterr().out
        assert (stopped / "metrics.jsonl").read_bytes() == metrics
    finally:
        other.communicate()
    lock(stopped).close()
