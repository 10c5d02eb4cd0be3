"""The last table of a command, row for row."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path
from typing import Any

import pytest
import tomli_w
from rich.console import Console

from fedhpro_flwr.config import RunConfig
from fedhpro_flwr.runs.closing import closing
from fedhpro_flwr.runs.reports import RoundReport
from fedhpro_flwr.settings.flat_keys import nest

ROUND = RoundReport(
    server_round=1,
    seconds=1.5,
    server_seconds={"waiting": 1.0, "matching": 0.25},
    client_seconds={"evaluation": 0.1, "local-training": 3.0},
    bytes_down={"model": 7_890},
    bytes_up={"model": 123_456, "class-gradients": 999},
    clients=[],
).line()
SUMMARY: dict[str, Any] = {
    "accuracy": {"best": 0.75, "last": 0.5, "mean-of-last-ten": 0.625, "best-round": 2},
    "accuracy-of": "test data",
    "tested-on": "test data",
    "last-round": {"domain_accuracy": {}, "by_prototype": None},
    "clients-tested": None,
    "num-clients": 3,
    "worse-than-alone": None,
}
CLIENTS = {"clients": 3, "accuracy": 0.5, "deviation": 0.25, "worst": 0.125, "worst_client": 1}
OF_ALL = "on their own test data: mean 50.0, deviation 25.0, worst 12.5 (client 1)"


def ended(folder: Path, *rounds: dict[str, Any], **changes: Any) -> Path:
    """The folder of a run that left this."""
    folder.mkdir()
    (folder / "metrics.jsonl").write_text("".join(json.dumps(each) + "\n" for each in rounds))
    (folder / "summary.json").write_text(json.dumps(SUMMARY | {k.replace("_", "-"): v for k, v in changes.items()}))
    (folder / "config.toml").write_text(tomli_w.dumps(nest(RunConfig.parse({"privacy.delta": 1e-6}).flat())))
    return folder


def shown(folder: Path, before: int = 0, width: int = 300) -> list[str]:
    """The lines of the table."""
    console = Console(file=io.StringIO(), width=width, color_system=None)
    console.print(closing(folder, 4.0, before))
    assert isinstance(console.file, io.StringIO)
    return [line.strip() for line in console.file.getvalue().splitlines()]


def rows(folder: Path, before: int = 0) -> list[list[str]]:
    """Each row's name and what it says."""
    heading, *lines, _ = shown(folder, before)
    assert heading == "done"
    return [re.split(" {2,}", line, maxsplit=1) for line in lines]


def test_the_rows_of_a_run(tmp_path: Path) -> None:
    folder = ended(tmp_path / "run", ROUND, ROUND | {"seconds": 2.5})
    assert rows(folder) == [
        ["accuracy", "best 75.0 (round 2), last 50.0, mean of last ten 62.5"],
        ["client time", "evaluation 100.0 ms, local-training 3.0 s a round, clients summed"],
        ["server time", "matching 250.0 ms a round"],
        ["sent up", "model 123.5 kB, class-gradients 999 B a round"],
        ["sent down", "model 7.9 kB a round"],
        ["wall clock", "4.0 s, of which 2 rounds of 2.00 s"],
        ["results", str(folder)],
    ]
    assert shown(folder)[-1] == "config.toml, metrics.jsonl, summary.json"


@pytest.mark.parametrize(("before", "said"), [(1, "4.0 s, of which 1 rounds of 2.50 s"), (2, "4.0 s")])
def test_rounds_of_an_earlier_command_are_none_of_this_one_s(before: int, said: str, tmp_path: Path) -> None:
    folder = ended(tmp_path / "run", ROUND, ROUND | {"seconds": 2.5})
    assert ["wall clock", said] in rows(folder, before)


def test_clients_that_withhold_their_results_have_no_time(tmp_path: Path) -> None:
    names = [name for name, _ in rows(ended(tmp_path / "run", ROUND | {"client_seconds": {}}))]
    assert names == ["accuracy", "server time", "sent up", "sent down", "wall clock", "results"]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("epsilon", "epsilon 1,235 at delta 1e-06; of the client that spent most"),
        ("epsilon-if-secret", "epsilon 1,235 at delta 1e-06, were the noise secret; of the client that spent most"),
    ],
)
def test_what_privacy_was_spent(name: str, said: str, tmp_path: Path) -> None:
    assert ["privacy", said] in rows(ended(tmp_path / "run", ROUND, privacy={name: 1234.5678}))


def test_of_some_clients_it_is_said_how_many_were_tested(tmp_path: Path) -> None:
    assert ["clients", OF_ALL] in rows(ended(tmp_path / "all", ROUND, clients_tested=CLIENTS))
    some = ended(tmp_path / "some", ROUND, clients_tested=CLIENTS | {"clients": 2})
    assert ["clients", OF_ALL.replace("data:", "data (2 of 3):")] in rows(some)


def test_where_only_clients_test_the_domains_and_the_prototypes_are_theirs(tmp_path: Path) -> None:
    theirs = CLIENTS | {"domain_accuracy": {"usps": 0.25, "mnist": None}, "by_prototype": 0.375}
    assert rows(ended(tmp_path / "run", ROUND, last_round=None, clients_tested=theirs, worse_than_alone=0.5))[1:5] == [
        ["domains", "usps 25.0, mnist -"],
        ["clients", OF_ALL],
        ["prototypes", "by the nearest instead of the head: 37.5"],
        ["alone", "50.0 % of the clients do worse than training alone"],
    ]


def test_a_folder_s_long_name_is_folded_and_not_cut(tmp_path: Path) -> None:
    folder = ended(tmp_path / ("long" * 30), ROUND)
    assert str(folder) in "".join(shown(folder, width=80)).replace("results", "").replace(" ", "")
