"""Reading run folders: finished ones, unfinished ones, and what is no run at all."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fedhpro_flwr.config import ConfigError
from fedhpro_flwr.report.runs import Run, find_runs, without_trials

DEEP = '{"a":' + "[" * 10**5


def test_a_finished_run(make_run):
    run = Run.read(make_run("a", [0.5, 0.75]))
    assert run.finished
    assert run.accuracies() == [(1, 0.5), (2, 0.75)]
    assert run.measure == "test data"
    assert run.headline() == {"best": 0.75, "best-round": 2, "last": 0.75, "mean-of-last-ten": 0.625}
    assert run.division is not None
    assert run.division.counts.tolist() == [[3, 0], [1, 4]]
    assert run.last_tested()["class_accuracy"] == [0.75, 1.0]


def test_an_unfinished_run_is_read_as_far_as_it_got(make_run):
    folder = make_run("a", [0.5, 0.75], finished=False, failure="round 3: 0 of 3 clients replied well\n")
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"server_round": 3, "seco')  # the line that was being written
    run = Run.read(folder)
    assert not run.finished
    assert len(run.rounds) == 2
    assert run.failure == "round 3: 0 of 3 clients replied well"


def test_without_a_global_model_the_clients_own_models_are_shown_the_last_ones_last(make_run):
    def own(accuracy, clients=2):
        said = {"clients": clients, "accuracy": accuracy, "deviation": 0.0, "worst": accuracy, "worst_client": 0}
        return said | {"class_accuracy": [accuracy, None]}

    folder = make_run("a", [0.5] * 3, finished=False)
    rounds = [json.loads(text) for text in (folder / "metrics.jsonl").read_text().splitlines()]
    received = [None, own(0.25), own(0.875, clients=1)]  # each of the round before
    lines = [json.dumps(each | {"tested": None, "received": own}) for each, own in zip(rounds, received, strict=True)]
    (folder / "metrics.jsonl").write_text("\n".join(lines) + "\n")
    run = Run.read(folder)
    assert (run.measure, run.accuracies(), run.last_tested()["class_accuracy"]) == (
        "mean over clients",
        [],
        [0.875, None],
    )
    (folder / "summary.json").write_text(json.dumps({"clients-tested": own(0.75)}))
    run = Run.read(folder)
    assert run.accuracies() == [(1, 0.25), (3, 0.75)]  # of one client alone, round 2 says nothing of both
    assert run.headline() == {"best": 0.75, "best-round": 3, "last": 0.75, "mean-of-last-ten": 0.5}
    assert run.last_tested()["class_accuracy"] == [0.75, None]


def test_domains_are_judged_by_their_mean(make_run):
    run = Run.read(make_run("a", [0.4], data__domains="north,south"))
    assert run.measure == "mean over domains"
    assert run.accuracies() == [(1, pytest.approx(0.3))]


def test_accuracies_on_validation_data_say_so(make_run):
    share = {"data__validation_share": 0.2}
    assert Run.read(make_run("a", [0.5], **share)).measure == "validation data"
    assert Run.read(make_run("b", [0.4], data__domains="north,south", **share)).measure == (
        "mean over domains, validation data"
    )


def test_runs_are_found_below_and_once(make_run, tmp_path: Path):
    first, second = make_run("grid/b", [0.5]), make_run("grid/a/deep", [0.5])
    assert find_runs([tmp_path / "runs"]) == [second, first]
    assert find_runs([first, tmp_path / "runs"]) == [first, second]


def test_trials_of_a_tuned_comparison_are_shown_only_if_named_or_alone(make_run, tmp_path: Path):
    place, trials = tmp_path / "runs" / "compare", tmp_path / "runs" / "compare" / "tuning"
    chosen = make_run("compare/fedavg/seed-0", [0.5])
    tried = make_run("compare/tuning/fedavg/local.lr=0.1/seed-9", [0.5], data__validation_share=0.2)
    an_experiment_of_that_name = make_run("compare/tuning/2026", [0.5])

    def shown(*places):
        runs = [Run.read(folder) for folder in find_runs(places)]
        return {run.folder for run in without_trials(runs, places)}

    assert shown(place) == {chosen, an_experiment_of_that_name}
    assert shown(trials) == shown(place, trials) - {chosen} == {tried, an_experiment_of_that_name}
    assert shown(place / "tuning" / "fedavg") == {tried}


@pytest.mark.parametrize("name", ["nowhere", "empty"])
def test_a_place_without_a_run_is_named(name, tmp_path: Path):
    (tmp_path / "empty").mkdir()
    sentence = "is no folder" if name == "nowhere" else r"holds no run: there is no config\.toml"
    with pytest.raises(FileNotFoundError, match=rf"{name} {sentence}"):
        find_runs([tmp_path / name])


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("config.toml", "rounds = "),
        ("config.toml", "roundz = 3"),
        ("summary.json", "{"),
        ("summary.json", "[1]"),
        ("partition.json", '{"class-names": ["a"], "counts": [[1, 2]]}'),
        ("partition.json", "[]"),
        ("partition.json", '{"class-names": ["a", "b"], "counts": [[1, 1e400]]}'),
        ("partition.json", '{"class-names": ["a", "b"], "counts": [[1, 2]], "client-domains": 3}'),
        ("partition.json", '{"class-names": ["a", "b"], "counts": [[1, 2]], "client-domains": ["x", "y"]}'),
        ("summary.json", '{"clients-tested": 3}'),
        ("summary.json", DEEP),
        ("partition.json", DEEP),
        ("config.toml", "a = " + "[" * 10**5),
        ("config.toml", ".".join("a" * 5000) + " = 1"),
    ],
    ids=lambda text: text[:40],
)
def test_a_file_that_cannot_be_read_is_named(file, content, make_run):
    folder = make_run("a", [0.5])
    (folder / file).write_text(content)
    with pytest.raises(ConfigError, match=rf"{folder / file} cannot be read: .*; name other runs") as refusal:
        Run.read(folder)
    assert "\n" not in str(refusal.value)


def test_a_damaged_round_is_named_by_its_line(make_run):
    folder = make_run("a", [0.5])
    (folder / "metrics.jsonl").write_text("{}}\n")
    with pytest.raises(
        ConfigError, match=rf"^{folder}/metrics.jsonl, line 1 cannot be read: it is no report of a round .Invalid JSON"
    ):
        Run.read(folder)


def test_settings_of_other_programs_are_no_runs(make_run, tmp_path):
    folder = make_run("a", [0.5])
    other = tmp_path / "other" / ".streamlit"
    other.mkdir(parents=True)
    (other / "config.toml").write_text("[theme]\nbase = 'dark'\n")
    assert find_runs([tmp_path]) == [folder.resolve()]
    with pytest.raises(FileNotFoundError, match=r"holds no run: there is no config\.toml of one in it or below it"):
        find_runs([other.parent])
