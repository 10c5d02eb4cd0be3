"""What a run looks like on a terminal of 80 columns."""

import io
import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from confusion import evaluation_of
from rich.console import Console

from fedhpro_flwr.accuracies import Breakdown, ClientsTested, ServerTested
from fedhpro_flwr.config import RunConfig
from fedhpro_flwr.exchange import GlobalModel
from fedhpro_flwr.records import OwnTest
from fedhpro_flwr.runs.closing import closing
from fedhpro_flwr.runs.progress import RoundLog, RunProgress, round_line
from fedhpro_flwr.runs.reports import RoundReport
from fedhpro_flwr.runs.run_folder import RunFolder, read_rounds
from fedhpro_flwr.runs.summary import summary
from fedhpro_flwr.runs.units import milliseconds, percent, size
from fedhpro_flwr.server.known_data import KnownData

CONFIG = RunConfig.parse(rounds=3)


def server_tested(accuracy, head, medium, tail, **more):
    return ServerTested(accuracy=accuracy, loss=1.0, head=head, medium=medium, tail=tail, **more)


def own_test(client, correct, examples=4, **more):
    return OwnTest(client, evaluation_of(torch.tensor([[[correct, examples - correct], [0, 0]]]), 0.5), **more)


def clients_tested(accuracy):
    return ClientsTested(clients=3, accuracy=accuracy, deviation=0.0, worst=accuracy, worst_client=0)


def report(number, *, tested=True, set_aside=(), **changes):
    values = {
        "server_round": number,
        "seconds": 1.5,
        "server_seconds": {"waiting": 1.0, "aggregation": 0.01, "matching": 0.25},
        "client_seconds": {"evaluation": 0.1, "class-gradients": 0.2, "local-training": 3.0},
        "bytes_down": {"model": 123_456, "hyper-prototypes": 7_890},
        "bytes_up": {"model": 123_456, "class-gradients": 999},
        "clients": [{"partition-id": client, "num-examples": 5} for client in range(10)],
        "set_aside": list(set_aside),
        "train_loss": 2.5,
        "received": None if number == 1 else clients_tested(0.25),
        "tested": server_tested(0.5, 0.75, 0.5, 0.25) if tested else None,
    }
    return RoundReport(**(values | changes))


def console(width=80):
    return Console(file=io.StringIO(), width=width, highlight=False, color_system=None)


def shown(on):
    return on.file.getvalue()


def folder_with(path, *reports, classes=10, clients=10, names=None):
    folder = RunFolder(path, CONFIG)
    counts = np.arange(clients * classes).reshape(clients, classes) % 150
    shape = SimpleNamespace(class_names=names or tuple(str(c) for c in range(classes)))
    folder.partition(KnownData(shape, None, (), counts, (), "f00d"))
    for one in reports:
        folder.on_round(one)
    return folder


def test_rows_fit_80_columns_and_come_once_each(tmp_path):
    on = console()
    progress = RunProgress(tmp_path, CONFIG, on)
    progress.update()
    assert shown(on) == ""
    folder = folder_with(tmp_path, report(1))
    progress.update()
    folder.on_round(report(2))
    progress.update()
    progress.update()
    lines = shown(on).splitlines()
    assert max(map(len, lines)) <= 80
    rows = [line for line in lines if "75.0/50.0/25.0" in line]
    assert [row.split() for row in rows] == [
        ["1", "50.0", "75.0/50.0/25.0", "-", "2.5000", "1.5", "124.5", "kB", "131.3", "kB", "10"],
        ["2", "50.0", "75.0/50.0/25.0", "25.0", "2.5000", "1.5", "124.5", "kB", "131.3", "kB", "10"],
    ]
    heading = next(line for line in lines if "accuracy" in line)
    assert heading.split() == ["round", "accuracy", "head/med/tail", "clients'", "loss", "sec", "up", "down", "ok"]


def test_a_line_that_was_shown_is_not_read_again(tmp_path):
    """Or a run of thousands of rounds would be parsed whole three times a second."""
    progress = RunProgress(tmp_path, CONFIG, console())
    folder = folder_with(tmp_path, report(1))
    progress.update()
    with (tmp_path / "metrics.jsonl").open("rb+") as same:
        same.write(b"no JSON")  # whoever reads it again cannot
    folder.on_round(report(2))
    progress.update()
    assert progress.shown == 2


@pytest.mark.parametrize("before", [0, 2])  # rounds that a checkpoint is of; 0: it was stopped before the first one
def test_a_run_that_goes_on_shows_the_rounds_that_it_plays_and_not_those_that_are_cut_off(tmp_path, before):
    with folder_with(tmp_path, *(report(number, seconds=1.5 if number <= before else 9.0) for number in (1, 2, 3, 4))):
        pass
    on = console()
    progress = RunProgress(tmp_path, CONFIG, on, rounds_before=before)
    progress.update()
    assert "9.0" not in shown(on)
    with RunFolder(tmp_path, CONFIG, rounds_before=before) as folder:
        progress.update()
        for number in range(before + 1, 5):
            folder.on_round(report(number, seconds=4.5, began_anew=[7]))
        progress.update()
    rows = [line.split() for line in shown(on).splitlines() if "75.0/50.0/25.0" in line]
    assert [(row[0], row[5]) for row in rows] == [(str(number), "4.5") for number in range(before + 1, 5)]
    assert shown(on).count("what client 7 kept is gone, or on another machine: begun anew") == 4 - before


def test_flowers_own_log_has_a_heading_whatever_round_the_run_goes_on_with(caplog):
    caplog.set_level("INFO", "flwr")
    told = RoundLog()
    told.on_round(report(5, began_anew=[1, 2]))
    told.on_round(report(6))
    assert [line.split()[0] for line in caplog.messages] == ["round", "5", "round", "6"]
    assert caplog.messages[2].startswith("round 5: what client 1, 2 kept is gone")


@pytest.mark.parametrize(
    "one",
    [
        report(100, received=clients_tested(1.0), tested=True),
        report(
            999,
            train_loss=123.4567,
            seconds=1234.5,
            received=clients_tested(1.0),
            bytes_up={"model": 999.9e6},
            bytes_down={"model": 12e9},
        ),
        report(5, tested=False, train_loss=float("nan")),
    ],
)
def test_even_wide_rows_fit(one):
    assert len(round_line(json.loads(json.dumps(one.line())))) <= 80


def test_a_perfect_model_fits():
    perfect = server_tested(1.0, 1.0, 1.0, 1.0)
    one = report(100, received=clients_tested(1.0)).line() | {"tested": vars(perfect)}
    line = json.loads(json.dumps(one))
    assert len(round_line(line)) <= 80
    assert "100.0/100.0/100.0" in round_line(line)


def test_a_round_without_a_test_shows_dashes():
    assert round_line(report(1, tested=False).line()).split()[:4] == ["1", "-", "-", "-"]


def test_why_replies_were_set_aside_is_shown_as_it_is(tmp_path):
    on = console(200)
    reason = "client 2: shape [5], [4] was expected [/bold] [red]"
    progress = RunProgress(tmp_path, CONFIG, on)
    folder_with(tmp_path, report(1, set_aside=[reason]))
    progress.update()
    assert f"       set aside: {reason}\n" in shown(on)


def test_of_many_that_were_set_aside_ten_are_shown(tmp_path):
    on = console(200)
    progress = RunProgress(tmp_path, CONFIG, on)
    folder_with(tmp_path, report(1, set_aside=[f"client {client}: late" for client in range(300)]))
    progress.update()
    told = [line.strip() for line in shown(on).splitlines() if "set aside" in line]
    assert told[-2:] == ["set aside: client 9: late", "set aside: 290 more"]
    assert len(told) == 11


def finish(folder, *, tested=True, alone=(), breakdown=None, part="test data"):
    folder.models(GlobalModel({"w": torch.zeros(1)}), {})
    tests = [own_test(client, client + 1) for client in range(3)] if tested else []
    rounds = read_rounds(folder.path)
    said = summary(rounds, tests, breakdown or Breakdown(), ["", "", ""], alone, part)
    folder.summary(said | {"seconds": 3.0})


def test_the_closing_table_names_numbers_and_all_files(tmp_path):
    better = server_tested(0.75, 0.75, 0.5, 0.25)
    folder = folder_with(tmp_path / "run [x]", report(1), replace(report(2), tested=better))
    finish(folder)
    (folder.path / "curves.png").write_bytes(b"")
    (folder.path / ".scratch").write_bytes(b"")
    on = console(300)
    on.print(closing(folder.path, 4.0))
    text = shown(on)
    assert "best 75.0 (round 2), last 75.0, mean of last ten 62.5" in text
    assert "on their own test data: mean 50.0, deviation 20.4, worst 25.0 (client 0)" in text
    assert "evaluation 100.0 ms, class-gradients 200.0 ms, local-training 3.0 s a round, clients summed" in text
    assert "aggregation 10.0 ms, matching 250.0 ms a round" in text
    assert "model 123.5 kB, class-gradients 999 B a round" in text
    assert "4.0 s, of which 2 rounds of 1.50 s" in text
    assert str(folder.path) in text
    files = "config.toml, curves.png, metrics.jsonl, model.safetensors, partition.json, summary.json"
    assert text.splitlines()[-1].strip() == files
    assert ".scratch" not in text


def test_the_closing_table_fits_80_columns(tmp_path):
    folder = folder_with(tmp_path, report(1))
    finish(folder)
    on = console()
    on.print(closing(folder.path, 4.0))
    assert max(map(len, shown(on).splitlines())) <= 80


def test_the_closing_table_of_domains_architectures_prototypes_and_training_alone(tmp_path):
    tested = server_tested(0.5, 1, 1, 1, domain_accuracy={"here": 0.5, "there": None}, mean_over_domains=0.25)
    folder = folder_with(tmp_path, replace(report(1), tested=replace(tested, by_prototype=0.125)))
    alone = [{"partition-id": 0, "test-correct": 2, "test-examples": 4}, {"partition-id": 1, "test-examples": 0}]
    alone.append({"partition-id": 2, "test-correct": 1, "test-examples": 2})
    finish(folder, alone=alone, breakdown=Breakdown(architectures=["cnn", "mlp", "cnn"]))
    on = console(200)
    on.print(closing(folder.path, 4.0))
    text = shown(on)
    assert "best 25.0 (round 1), last 25.0, mean of last ten 25.0 (mean over domains)" in text
    assert "here 50.0, there -" in text
    assert "mean over their clients: cnn 50.0, mlp 50.0" in text
    assert "by the nearest instead of the head: 12.5" in text
    assert "50.0 % of the clients do worse than training alone" in text


def test_without_a_global_model_the_clients_models_are_the_headline(tmp_path):
    folder = folder_with(tmp_path, report(1, tested=False), report(2, tested=False))
    finish(folder)
    on = console(200)
    on.print(closing(folder.path, 4.0))
    assert "best 50.0 (round 2), last 50.0, mean of last ten 37.5 (mean over clients)" in shown(on)


@pytest.mark.parametrize(
    ("tested", "of"), [(True, "(validation data)"), (False, "(mean over clients, validation data)")]
)
def test_a_run_on_validation_data_says_so(tmp_path, tested, of):
    folder = folder_with(tmp_path, report(1, tested=tested))
    finish(folder, part="validation data")
    on = console(200)
    on.print(closing(folder.path, 4.0))
    text = shown(on)
    assert of in text and "on their own validation data: mean 50.0" in text and "test data" not in text


def test_the_closing_table_without_tests(tmp_path):
    folder = folder_with(tmp_path, report(1, tested=False))
    finish(folder, tested=False)
    on = console(200)
    on.print(closing(folder.path, 4.0))
    assert "own test data" not in shown(on)
    assert "nothing was tested" in shown(on) and "best" not in shown(on)
    assert str(folder.path) in shown(on)


def test_the_watcher_shows_rounds_while_they_come_and_ends(tmp_path):
    on = console()
    with RunProgress(tmp_path, CONFIG, on) as progress:
        folder_with(tmp_path, report(1), report(2))
    assert not progress.watcher.is_alive()
    assert progress.shown == 2


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (2.5e6, "2.5 MB"), (3e9, "3.0 GB")]
)
def test_size(count, text):
    assert size(count) == text


def test_percent_and_milliseconds():
    assert (percent(None), percent(0.5), percent(1.0)) == ("-", "50.0", "100.0")
    assert (milliseconds(0.0015), milliseconds(2.0)) == ("1.5 ms", "2.0 s")


def test_a_loss_that_no_client_tells_is_a_dash():
    assert round_line(report(1, train_loss=None).line()).split()[3:5] == ["-", "-"]
