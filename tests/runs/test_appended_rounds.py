"""metrics.jsonl while it grows: every line is read once, and a half one when it is whole."""

import json
import re

import pytest

from fedhpro_flwr.config import ConfigError
from fedhpro_flwr.runs import appended_rounds
from fedhpro_flwr.runs.appended_rounds import AppendedRounds
from fedhpro_flwr.runs.reports import RoundReport
from fedhpro_flwr.whole_file import write_whole


def lines(*rounds):
    reports = [RoundReport(one, 0.5, {}, {}, {}, {}, []) for one in rounds]
    return b"".join(json.dumps(report.line()).encode() + b"\n" for report in reports)


def numbers(rounds):
    return [line["server_round"] for line in rounds.new()]


@pytest.fixture
def metrics(tmp_path):
    return tmp_path / "metrics.jsonl"


def append(metrics, content):
    with metrics.open("ab") as file:
        file.write(content)


def test_what_was_read_is_not_read_again(metrics, monkeypatch):
    parsed, parse = [], appended_rounds.round_of
    monkeypatch.setattr(appended_rounds, "round_of", lambda line, place: (parsed.append(place), parse(line, place))[1])
    rounds = AppendedRounds(metrics.parent)
    assert numbers(rounds) == []
    metrics.write_bytes(lines(1, 2))
    assert (numbers(rounds), numbers(rounds)) == ([1, 2], [])
    append(metrics, lines(3))
    assert (numbers(rounds), numbers(rounds)) == ([3], [])
    assert parsed == [f"{metrics}, line {number}" for number in (1, 2, 3)]


def test_a_line_that_is_not_complete_waits(metrics):
    rounds, whole = AppendedRounds(metrics.parent), lines(2)
    metrics.write_bytes(lines(1) + whole[:20])
    assert numbers(rounds) == [1]
    append(metrics, whole[20:-1])
    assert numbers(rounds) == []
    append(metrics, whole[-1:] + lines(3))
    assert numbers(rounds) == [2, 3]


def test_another_file_or_one_that_was_cut_is_read_from_its_beginning(metrics):
    rounds = AppendedRounds(metrics.parent)
    metrics.write_bytes(lines(1, 2, 3))
    assert numbers(rounds) == [1, 2, 3]
    write_whole(metrics, lines(1, 2, 3, 4))
    assert numbers(rounds) == [1, 2, 3, 4]
    with metrics.open("rb+") as same:
        same.truncate(len(lines(1)))
    assert numbers(rounds) == [1]


def test_a_damaged_line_is_named_by_its_number_at_every_look(metrics):
    rounds = AppendedRounds(metrics.parent)
    metrics.write_bytes(lines(1))
    assert numbers(rounds) == [1]
    append(metrics, b"[1]\n")
    for _ in range(2):
        with pytest.raises(ConfigError, match=re.escape(f"{metrics}, line 2 cannot be read: it is no report")):
            rounds.new()
