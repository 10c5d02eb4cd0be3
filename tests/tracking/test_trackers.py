"""The trackers of a run: refused before it starts, told of everything, and left out where they fail."""

import logging
import subprocess
import sys

import pytest

from fedhpro_flwr.cli import main
from fedhpro_flwr.config import ConfigError, RunConfig
from fedhpro_flwr.runs.reports import RoundReport
from fedhpro_flwr.settings.from_command_line import prepare
from fedhpro_flwr.tracking import TRACKERS, Tracker, Trackers, chosen_trackers, tracker

SUMMARY = {"accuracy": {"best": 0.5, "best-round": 2, "last": 0.25, "mean-of-last-ten": 0.375}}


def report(number):
    return RoundReport(number, 0.5, {}, {}, {}, {}, [], train_loss=0.25 * number)


def test_none_of_an_empty_text():
    assert chosen_trackers("") == chosen_trackers(" , ") == {}


def test_an_unknown_name_lists_what_exists():
    with pytest.raises(ConfigError) as refused:
        chosen_trackers("tensorbord")
    assert str(refused.value) == "trackers = 'tensorbord' is unknown, there are: mlflow, tensorboard, wandb"


@pytest.mark.parametrize("name", ["tensorboard", "wandb", "mlflow"])
def test_a_library_that_is_missing_is_named_with_its_extra(name, monkeypatch):
    monkeypatch.setitem(sys.modules, name, None)  # as if it were not installed
    with pytest.raises(ConfigError) as refused:
        chosen_trackers(f" {name}")
    assert str(refused.value) == (
        f"trackers = {name!r}: the library {name} is not installed; pip install 'fedhpro-flwr[{name}]'"
    )


@pytest.mark.parametrize("change", ["trackers=tensorbord", "trackers=wandb"])
def test_a_run_with_a_wrong_tracker_is_not_started(change, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "wandb", None)
    arguments = ["run", "--engine", "in-process", "--set", f"results-dir={tmp_path / 'results'}", "--set", change]
    assert main(arguments) == 2
    assert capsys.readouterr().err.startswith("fedhpro: trackers = ")
    assert not (tmp_path / "results").exists()
    with pytest.raises(ConfigError, match="trackers = "):
        prepare(None, [change])


def test_looking_for_the_libraries_imports_none_of_them():
    code = (
        "import sys\n"
        "from fedhpro_flwr.tracking import Trackers, chosen_trackers\n"
        "from fedhpro_flwr.settings.flat_keys import ConfigError\n"
        "for name in ('tensorboard', 'wandb', 'mlflow'):\n"
        "    try: chosen_trackers(name)\n"
        "    except ConfigError: pass\n"
        "    assert name not in sys.modules, name\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


@pytest.fixture
def kinds(tmp_path, monkeypatch):
    """Trackers `one` and `two`, whose libraries exist: what they were told, and by name what `two` fails at."""
    told, failing = [], set()

    class Recorder(Tracker):
        def __init__(self, run):
            self._note("init", run)

        def log(self, server_round, numbers):
            self._note("log", server_round, dict(numbers))

        def summary(self, numbers):
            self._note("summary", dict(numbers))

        def close(self, *, failed):
            self._note("close", failed)

        def _note(self, what, *values):
            if self.name == "two" and what in failing:
                raise OSError(28, "No space\nleft")
            told.append((self.name, what, *values))

    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr("fedhpro_flwr.tracking.base.TRACKERS", type(TRACKERS)("trackers"))
    for name in ("one", "two"):
        (tmp_path / f"{name}.py").write_text("")
        tracker(name)(type("Recorder", (Recorder,), {}))
    return told, failing


def told_by(name, told):
    return [entry[1:] for entry in told if entry[0] == name]


def play(folder, rounds=2, names="one, two"):
    config = RunConfig.parse(trackers=names, experiment="mine")
    with Trackers(config, folder) as trackers:
        trackers.start()
        for number in range(1, rounds + 1):
            trackers.on_round(report(number))
        trackers.summary(SUMMARY)
    return config


def test_every_tracker_is_told_of_the_settings_the_rounds_and_the_end(kinds, tmp_path):
    told, _ = kinds
    config = play(tmp_path)
    for name in ("one", "two"):
        (_, run), *rounds, summary, end = told_by(name, told)
        assert (run.folder, run.experiment, run.settings) == (tmp_path, "mine", config.flat())
        assert [(what, number, numbers["train/loss"]) for what, number, numbers in rounds] == [
            ("log", 1, 0.25),
            ("log", 2, 0.5),
        ]
        assert summary[1]["summary/best"] == 0.5
        assert end == ("close", False)


def test_a_name_that_comes_twice_counts_once(kinds, tmp_path):
    told, _ = kinds
    play(tmp_path, rounds=1, names="two,one, two")
    assert [entry[:2] for entry in told if entry[1] == "log"] == [("two", "log"), ("one", "log")]


@pytest.mark.parametrize("what", ["init", "log", "summary", "close"])
def test_a_tracker_that_fails_is_named_once_and_the_others_go_on(what, kinds, tmp_path, caplog, monkeypatch):
    told, failing = kinds
    failing.add(what)
    monkeypatch.setattr(logging.getLogger("flwr"), "propagate", True)
    with caplog.at_level(logging.WARNING, "flwr"):
        play(tmp_path, rounds=3)
    assert [record.getMessage() for record in caplog.records] == [
        "tracker two failed, the run goes on without it: OSError: [Errno 28] No space left"
    ]
    assert [entry[0] for entry in told_by("one", told)] == ["init", "log", "log", "log", "summary", "close"]
    order = ["init", "log", "summary", "close"]
    assert {entry[0] for entry in told_by("two", told)} == set(order[: order.index(what)])


@pytest.mark.parametrize("error", [RuntimeError("lost quorum"), KeyboardInterrupt()])
def test_a_run_that_fails_is_closed_as_failed_and_its_exception_goes_on(error, kinds, tmp_path):
    told, _ = kinds
    with pytest.raises(type(error)), Trackers(RunConfig.parse(trackers="one"), tmp_path) as trackers:
        trackers.start()
        raise error
    assert [entry[1:] for entry in told][-1] == ("close", True)


def test_before_the_start_there_is_nothing_to_close(kinds, tmp_path):
    told, _ = kinds
    with pytest.raises(ValueError), Trackers(RunConfig.parse(trackers="one"), tmp_path):
        raise ValueError("no data")
    assert told == []


def test_a_folder_with_the_name_of_a_library_is_no_library(kinds, tmp_path):
    (tmp_path / "one.py").unlink()
    (tmp_path / "one").mkdir()  # as `wandb` leaves one behind in the directory it ran in
    with pytest.raises(ConfigError, match="the library one is not installed"):
        chosen_trackers("one")
