"""prototypes.safetensors: which rounds are kept, what is in the file, and methods without prototypes."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

from fedhpro_flwr.cli import main
from fedhpro_flwr.config import RunConfig
from fedhpro_flwr.methods import Method, build_method
from fedhpro_flwr.prototypes import Prototypes
from fedhpro_flwr.runs.prototype_trace import MOST_BYTES, PrototypeTrace, kept_every


class Counting(Method):
    """Prototypes that all equal the number of rounds so far; class 1 becomes known in round 2."""

    def broadcast(self, state):
        return {"count": state}

    def prototypes(self, sent):
        return Prototypes(sent["count"].expand(2, 3), torch.tensor([True, bool(sent["count"] > 1)]))


def traced(rounds, method=None, *, played=None, after=0, before=None):
    server = SimpleNamespace(method=method or Counting(RunConfig.parse()), state=torch.zeros(1, dtype=torch.float64))
    server.state += after
    trace = PrototypeTrace(server, rounds, before)
    for server_round in range(after + 1, (played or rounds) + 1):
        server.state += 1  # in place: what was kept must be a copy
        trace.on_round(SimpleNamespace(server_round=server_round))
    return trace


def test_every_round_of_a_short_run(tmp_path):
    traced(3).write(tmp_path)
    kept = load_file(tmp_path / "prototypes.safetensors")
    assert {name: (tensor.dtype, list(tensor.shape)) for name, tensor in kept.items()} == {
        "prototypes": (torch.float32, [3, 2, 3]),
        "known": (torch.bool, [3, 2]),
        "rounds": (torch.int64, [3]),
    }
    assert kept["rounds"].tolist() == [1, 2, 3]
    assert kept["prototypes"][:, 0, 0].tolist() == [1, 2, 3]
    assert kept["known"].tolist() == [[True, False], [True, True], [True, True]]


def test_a_long_run_keeps_its_last_round_and_every_fourth_before():
    rounds = traced(250).tensors()["rounds"].tolist()
    assert rounds == [*range(4, 249, 4), 250]
    assert traced(252).tensors()["rounds"].tolist()[-2:] == [248, 252]


@pytest.mark.parametrize(
    ("first", "played", "longer"),
    [(150, 150, 151), (150, 150, 155), (100, 100, 101), (101, 101, 102), (200, 200, 450), (250, 77, 250)],
)
def test_a_run_that_goes_on_keeps_what_it_would_have_kept_uninterrupted(first, played, longer):
    before = traced(first, played=played).tensors()
    gone_on, whole = traced(longer, after=played, before=before).tensors(), traced(longer).tensors()
    assert len(whole["rounds"]) > 50
    for name, tensor in whole.items():
        assert torch.equal(gone_on[name], tensor), name


def test_wide_prototypes_are_kept_less_often():
    assert kept_every(100, 10) == 1
    assert kept_every(101, 10) == 2
    assert kept_every(100, MOST_BYTES // 20) == 8
    assert kept_every(100, 10 * MOST_BYTES) == 128  # the last round is always kept


@given(rounds=st.integers(1, 5000), size=st.integers(1, MOST_BYTES))
def test_no_trace_is_longer_or_larger_than_it_may_be(rounds, size):
    kept = math.ceil(rounds / kept_every(rounds, size))
    assert 1 <= kept <= 100
    assert kept * size <= MOST_BYTES


def test_a_method_without_prototypes_leaves_no_file(tmp_path):
    trace = traced(2, method=build_method(RunConfig.parse(method__name="fedavg")))
    trace.write(tmp_path)
    assert trace.tensors() == {}
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("method", "kept"), [("fedhpro", True), ("fedavg", False)])
def test_a_run_keeps_the_prototypes_that_its_rounds_ended_with(method, kept, tmp_path):
    settings = {
        "rounds": 2, "partition.num-partitions": 3, "data.train-limit": 120, "local.epochs": 1, "model.name": "mlp",
        "model.width": 8, "hyper-prototypes.matching-steps": 2, "run-folder": tmp_path, "method.name": method,
    }  # fmt: skip
    changes = [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]
    assert main(["run", *changes, "--engine", "in-process"]) == 0
    assert (tmp_path / "prototypes.safetensors").exists() == kept
    if kept:
        trace, last = (
            load_file(tmp_path / "prototypes.safetensors"),
            load_file(tmp_path / "hyper-prototypes.safetensors"),
        )
        assert trace["rounds"].tolist() == [1, 2]
        torch.testing.assert_close(trace["prototypes"][-1], last["hyper-prototypes"].mean(1))
        assert not torch.equal(trace["prototypes"][0], trace["prototypes"][1])
