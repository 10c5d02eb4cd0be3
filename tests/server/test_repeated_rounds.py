"""A round that lost its quorum to nodes is repeated: when, how often, and with which replies."""

from __future__ import annotations

import json
from dataclasses import asdict

import pytest
from faulty_grid import CLIENTS, CONFIG, UNAVAILABLE, Clock, Faulty, Played, client_data, new_model, once
from flwr.app import Error, Message

from client_app.app import make_client_app
from fedhpro_flwr.config import RunConfig
from fedhpro_flwr.records import array_record
from fedhpro_flwr.runs.checkpoint import About, Checkpoint, RunSoFar
from fedhpro_flwr.runs.checkpoints import Checkpoints
from fedhpro_flwr.runs.prototype_trace import PrototypeTrace
from fedhpro_flwr.server import roster
from fedhpro_flwr.server.answers import TooFewNodes
from fedhpro_flwr.server.roster import Roster
from fedhpro_flwr.server.seats import Seats
from server_app.strategy import FedHProStrategy


@pytest.fixture(autouse=True)
def clock(monkeypatch):
    return Clock.in_place_of_time(monkeypatch)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"method__name": "scaffold"},
        {"model__share": "head"},
        {"method__name": "moon", "checkpoint__every": 0},
        {"clients__sampling": "stream", "clients__per_round": 2},
    ],
    ids=["fedhpro", "scaffold", "head", "moon", "stream"],
)
def test_a_repeated_round_gives_the_bits_that_it_would_have_given(clock, tmp_path, settings):
    """The client that did reply to the first attempt has kept state of the round: it does not count."""
    settings = {"clients__quorum": 1.0, **settings}
    whole = Played(clock, clients__state_path=str(tmp_path / "whole"), **settings)

    clock.sleep = lambda seconds: grids[-1].gone.clear()
    grids = []

    def befall(grid, kind, turn):
        if grid not in grids:
            grids.append(grid)
        if (kind, turn) == ("train", 3) and not any(entry[:2] == ("train", 3) for entry in grid.sent):
            grid.gone.update({101, 102})

    repeated = Played(clock, befall, clients__state_path=str(tmp_path / "repeated"), **settings)
    assert repeated.bits() == whole.bits()
    assert repeated.clients == whole.clients
    assert any(reason.startswith("attempt 1: client ") for reason in repeated.set_aside[2])
    assert [report.server_round for report in repeated.reports] == [1, 2, 3, 4]
    for whole_report, report in zip(whole.reports, repeated.reports, strict=True):
        asked = 2 if report.server_round == 3 else 1  # times: what the attempt below the quorum sent was sent
        assert report.bytes_down == {name: asked * size for name, size in whole_report.bytes_down.items()}
    came = repeated.reports[2].bytes_up["model"] / whole.reports[2].bytes_up["model"]
    assert came == pytest.approx(1 + 1 / len(whole.clients[2]))


def test_below_the_quorum_the_run_stops_after_its_repeats_and_says_so(clock):
    run = Played(clock, once(("train", 3, lambda grid: grid.gone.update({101, 102}))), fails=True)
    assert len(run.reports) == 2
    assert str(run.lost) == (
        "round 3: 1 of 3 clients can be asked, clients.quorum = 0.6 needs 2; clients 1, 2: its node is gone"
    )
    assert clock.now == pytest.approx(2 * roster.PAUSE_SECONDS, abs=2 * roster.POLL_SECONDS)
    assert [node_id for kind, turn, node_id in run.grid.sent if (kind, turn) == ("train", 3)] == [
        100,
        101,
        102,
    ]  # and node 100 is not asked again in vain


@pytest.mark.parametrize("retries", [0, 1])
def test_a_round_is_repeated_as_often_as_the_settings_say(clock, retries):
    run = Played(
        clock, once(("train", 1, lambda grid: grid.gone.update({101, 102}))), fails=True, clients__retries=retries
    )
    assert clock.now == pytest.approx(retries * roster.PAUSE_SECONDS, abs=retries * roster.POLL_SECONDS)
    assert len(run.lost.set_aside) == 2


def test_a_round_whose_clients_fail_by_themselves_is_not_repeated(clock):
    def client_side(config, task, context):
        if task.server_round == 2 and task.partition_id:
            raise ValueError("the disk is full") if task.partition_id == 1 else IndexError("a bug")
        return new_model(), client_data(task.partition_id)

    run = Played(clock, app=make_client_app(client_side), fails=True)
    assert str(run.lost).endswith("needs 2; client 1: the disk is full; client 2: IndexError: a bug")
    assert len([entry for entry in run.grid.sent if entry[:2] == ("train", 2)]) == CLIENTS


def test_an_answer_to_the_first_attempt_does_not_count_in_the_second(clock):
    clock.sleep = lambda seconds: (setattr(clock, "now", clock.now + seconds), grids and grids[-1].hanging.clear())
    grids = []

    def befall(grid, kind, turn):
        if not grids:
            grids.append(grid)
        if (kind, turn) == ("train", 2) and not any(entry[:2] == ("train", 2) for entry in grid.sent):
            grid.hanging.update({101, 102})

    run = Played(clock, befall)
    assert run.bits() == Played(clock).bits()
    assert run.set_aside[1] == [
        "attempt 1: client 1: did not reply",
        "attempt 1: client 2: did not reply",
        "client 1: its answer to round 2 came too late",
        "client 2: its answer to round 2 came too late",
    ]


@pytest.mark.parametrize("needs", [560, 860])
@pytest.mark.parametrize("named", [True, False], ids=["its own client", "a client that no node names"])
def test_a_repeat_waits_for_a_node_that_has_not_answered_as_long_as_it_is_left_alone(clock, named, needs, monkeypatch):
    """It answers between one timeout and three: the only repeat is not used up before."""
    grids = []
    if not named:
        begin = Faulty.__init__

        def nameless(grid, *given):
            begin(grid, *given)
            for context in grid._contexts.values():
                context.node_config.clear()

        monkeypatch.setattr(Faulty, "__init__", nameless)

    def befall(grid, kind, turn):
        if not grids and (kind, turn) == ("train", 3):
            grids.append(grid)
            grid.hanging.add(101)

    pull = Faulty.pull_messages

    def answered(grid, message_ids):
        if clock.now >= needs:
            grid.hanging.clear()
        return pull(grid, message_ids)

    monkeypatch.setattr(Faulty, "pull_messages", answered)
    run = Played(clock, befall, clients__quorum=1.0, clients__timeout=300, clients__retries=1)
    assert run.clients == [[0, 1, 2]] * 4


def test_a_client_whose_node_is_not_back_is_played_by_no_other_after_a_resume(clock):
    """What it kept lies there, and another node would begin anew in its name."""
    cut = Played(clock, rounds=2)
    assert cut.strategy.clients.roster.named == (0, 1, 2)
    about = About("ab", 2, {}, cut.strategy.clients.roster.named, settings={}, code="", data="")
    grid = Faulty(clock, lambda *_: None, nodes=2)
    resumed = Roster(grid, cut.strategy.config, about, 4)
    resumed.begin(10)
    assert resumed.draw(3) == Seats({0: 100, 1: 101}, {2: "its node is gone"})
    begun = Roster(grid, cut.strategy.config, RunSoFar("cd"), 4)
    begun.begin(10)
    assert begun.draw(3) == Seats({0: 100, 1: 101, 2: 100}, {})
    assert About.parse(json.dumps(asdict(about))) == about


def test_clients_that_no_node_names_stay_where_they_were_played_after_a_resume(clock):
    """What they kept lies there; dealt anew, each could go to another machine."""
    config = RunConfig.parse(CONFIG, partition__num_partitions=6)

    def nodes(*ids):
        grid = Faulty(clock, lambda *_: None, nodes=3)
        for context in grid._contexts.values():
            context.node_config.clear()
        grid.gone = {100, 101, 102} - set(ids)
        return grid

    grid = nodes(101, 102)
    begun = Roster(grid, config, RunSoFar("ab"), 4)
    begun.begin(10)
    grid.gone.clear()
    begun.update(10)
    before = {0: 101, 1: 102, 2: 101, 3: 102, 4: 100, 5: 100}
    assert begun.stand_ins == before

    about = About("ab", 2, {}, (), begun.stand_ins, settings={}, code="", data="")
    assert About.parse(json.dumps(asdict(about))) == about
    resumed = Roster(nodes(100, 101, 102), config, about, 4)
    resumed.begin(10)
    assert resumed.stand_ins == before
    fewer = Roster(nodes(100, 101), config, about, 4)
    fewer.begin(10)
    assert fewer.stand_ins == {0: 101, 1: 100, 2: 101, 3: 101, 4: 100, 5: 100}


def test_clients_of_nodes_that_were_all_away_for_a_while_stay_with_them(clock):
    grid = Faulty(clock, lambda *_: None, nodes=2)
    for context in grid._contexts.values():
        context.node_config.clear()
    begun = Roster(grid, RunConfig.parse(CONFIG, partition__num_partitions=5), RunSoFar("ab"), 4)
    begun.begin(10)
    before = dict(begun.stand_ins)
    grid.gone.update({100, 101})
    begun.update(10)
    assert set(begun.everybody.absent) == set(range(5))
    grid.gone.clear()
    begun.update(10)
    assert begun.stand_ins == before and begun.everybody == Seats(before, {})


class Listed(Faulty):
    """Nodes in `dead` are listed and answer as Flower says of one without heartbeats."""

    dead = frozenset()

    def revived_after(self, seconds):
        """The clock's `sleep`, after so much of which the dead are alive."""
        clock, end = self.clock, self.clock.now + seconds

        def sleep(pause):
            clock.now += pause
            if clock.now > end:
                self.dead = frozenset()

        return sleep

    def push_messages(self, messages):
        messages = list(messages)
        pushed = list(super().push_messages(messages))
        for message_id, message in zip(pushed, messages, strict=True):
            if message.metadata.dst_node_id in self.dead:
                said = Error(code=UNAVAILABLE, reason="Error: Node Unavailable")
                self._replies[message_id] = Message(said, reply_to=message)
        return pushed


@pytest.mark.parametrize("settings", [{"method.name": "scaffold"}, {"model.share": "head"}], ids=["scaffold", "head"])
def test_a_run_resumed_while_a_node_is_listed_and_dead_ends_with_the_bits_of_one_that_was_not_stopped(
    clock, tmp_path, settings
):
    """Each node keeps its clients' state in a folder of its own. The dead one is back a minute later."""
    settings = CONFIG | {"clients.quorum": 1.0, "clients.retries": 9} | settings

    def played(name, rounds, resume=None, dead=frozenset()):
        grid = Listed(clock, lambda *_: None)
        grid.dead = dead
        for context in grid._contexts.values():
            context.node_config["state-path"] = str(tmp_path / name / str(context.node_id))
        strategy = FedHProStrategy(RunConfig.parse(settings | {"rounds": rounds}), resume=resume)
        saved = Checkpoints(strategy, PrototypeTrace(strategy, 9, {}), tmp_path / name / "run")
        strategy.observers = (saved,)
        clock.sleep = grid.revived_after(60)
        strategy.start(grid, array_record(new_model().state_dict()))
        return {
            name: value.numpy().tobytes() for name, value in {**strategy.model.shared, **strategy.tensors()}.items()
        }

    whole = played("whole", 4)
    played("cut", 2)
    checkpoint = Checkpoint.read(tmp_path / "cut" / "run" / "checkpoint" / "round-2.safetensors")
    assert played("cut", 4, checkpoint, dead={101}) == whole


def test_so_many_nodes_are_waited_for_as_the_settings_name(clock, caplog):
    """One that is listed may be dead: its client is not given away before it had its time."""

    grid = Listed(clock, lambda *_: None)
    grid.dead = {102}
    clock.sleep = grid.revived_after(60)
    config = RunConfig.parse(CONFIG, clients__num_nodes=3)
    waited = Roster(grid, config, RunSoFar("ab"), 4)
    waited.begin(600)
    assert not [record for record in caplog.records if record.getMessage().startswith("not ready to train")]
    assert waited.draw(1) == Seats({0: 100, 1: 101, 2: 102}, {})
    assert "2 of 3 nodes answered, waited for: node 102" in [record.getMessage() for record in caplog.records]
    with pytest.raises(TooFewNodes, match=r"^2 nodes after 0 s, clients\.num-nodes = 3 are needed$"):
        Roster(Faulty(clock, lambda *_: None, nodes=2), config, RunSoFar("ab"), 4).begin(0)
