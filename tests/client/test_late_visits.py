"""Visits that do not count: their files go in time, and never one that a server goes on from, however late they end."""

from __future__ import annotations

import itertools
import os
import tempfile

import pytest
import torch
from faulty_grid import CONFIG, Clock, Faulty, new_model
from flwr.app import Context, RecordDict
from hypothesis import given
from hypothesis import strategies as st

from fedhpro_flwr.client import personal
from fedhpro_flwr.client.personal import PersonalState
from fedhpro_flwr.config import RunConfig
from fedhpro_flwr.records import Task, array_record
from fedhpro_flwr.runs.checkpoints import KEPT_CHECKPOINTS, Checkpoints
from fedhpro_flwr.runs.prototype_trace import PrototypeTrace
from fedhpro_flwr.visits import Visits, new_name
from server_app.strategy import FedHProStrategy

ROUNDS = 20


@given(
    every=st.integers(1, 6),
    fates=st.lists(st.sampled_from(["counts", "lost", "late", "killed", "damaged"]), min_size=2 * ROUNDS),
    delays=st.lists(st.integers(1, 9), min_size=2 * ROUNDS),
)
def test_a_late_process_takes_nothing_that_a_server_goes_on_from(every, fates, delays):
    """A visit of a late process begins and ends between others. A server that is killed, its newest checkpoint damaged
    or not, goes on after an earlier round, while processes of its own visits are still to come."""
    seconds = itertools.count(1)
    with tempfile.TemporaryDirectory() as folder:
        config = RunConfig.parse(clients__state_path=folder)

        def visit(task, value):
            state = PersonalState.of(config, task, Context(7, 1, {}, RecordDict(), {}))
            found = state.before()
            state.keep({"w": torch.tensor([value])})
            os.utime(personal.visit_file(state.folder, task.visit), (0, next(seconds)))
            return int(found["w"].item()) if found else None

        visits, checkpoints, expected, late = Visits(), {}, {}, []  # expected: what the server knows of the client
        server_round = 1
        for turn, (fate, delay) in enumerate(zip(fates, delays, strict=False)):
            for task, value in [(task, value) for due, task, value in late if due == turn]:
                visit(task, value)
            after = visits.after(4)
            task = Task(
                server_round, 4, run="abc", visit=new_name(server_round),
                after=after, needed=visits.needed(4), settled=visits.settled,
            )  # fmt: skip
            if fate == "late":
                late.append((turn + delay, task, turn))
            else:
                assert visit(task, turn) == expected.get(after)
            if fate == "counts":
                visits.count(task.visit, [4])
                expected[task.visit] = turn
            if fate in ("killed", "damaged"):
                if fate == "damaged" and len(checkpoints) > 1:
                    checkpoints.pop(max(checkpoints))
                server_round = max(checkpoints, default=0) + 1
                visits = Visits(dict(checkpoints.get(server_round - 1, {})), dict(checkpoints))
                continue
            if server_round % every == 0:
                checkpoints[server_round] = dict(visits.counted)
                checkpoints = dict(sorted(checkpoints.items())[-KEPT_CHECKPOINTS:])
                visits.keep(checkpoints)
            server_round += 1


class LateInEveryRound(Faulty):
    """The answer of node 102 is there only when the server looks for late ones, before the next round."""

    def pull_messages(self, message_ids):
        self.hanging.clear()
        return super().pull_messages(message_ids)


@pytest.mark.parametrize(("every", "most"), [(1, 2), (3, 6)])
def test_a_client_whose_replies_never_count_keeps_what_it_made_since_the_oldest_checkpoint(
    monkeypatch, tmp_path, every, most
):
    files = []

    def befall(grid, kind, turn):
        if kind == "train":
            grid.hanging.add(102)
            files.append(len(list(tmp_path.glob("clients/*/client-2/visit-*"))))

    grid = LateInEveryRound(Clock.in_place_of_time(monkeypatch), befall)
    settings = {"method.name": "moon", "rounds": 15, "checkpoint.every": every, "clients.timeout": 60}
    strategy = FedHProStrategy(RunConfig.parse(CONFIG | settings, clients__state_path=str(tmp_path / "clients")))
    strategy.observers = (Checkpoints(strategy, PrototypeTrace(strategy, 9, {}), tmp_path / "run"),)
    strategy.start(grid, array_record(new_model().state_dict()))
    assert [entry for entry in grid.sent if entry[0] == "train" and entry[2] == 102] == [
        ("train", number, 102) for number in range(1, 16)
    ]
    assert max(files) == most
