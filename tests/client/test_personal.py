"""What a client keeps between rounds."""

import itertools
import os

import pytest
import torch
from flwr.app import Context, RecordDict

from fedhpro_flwr import whole_file
from fedhpro_flwr.client import personal
from fedhpro_flwr.client.personal import PersonalState
from fedhpro_flwr.config import RunConfig
from fedhpro_flwr.records import Task

TENSORS = {"encoder.w": torch.arange(6.0).view(2, 3).T, "encoder.n": torch.tensor(3)}


@pytest.fixture(autouse=True)
def written_one_after_the_other(monkeypatch):
    """Files of a visit are seconds apart, as those of rounds are, however coarse the clock of the file system is."""
    write, seconds = personal.write_whole, itertools.count(1)

    def written(path, content):
        write(path, content)
        os.utime(path, (0, next(seconds)))

    monkeypatch.setattr(personal, "write_whole", written)


def context(**node_config):
    return Context(run_id=7, node_id=1, node_config=node_config, state=RecordDict(), run_config={})


def at(folder, visit, after="", needed="", settled=0):
    """The state at a visit of client 4, as its message gives it."""
    config, number = RunConfig.parse(clients__state_path=str(folder)), visit.partition("-")[0]
    server_round = int(number) if number.isdecimal() else 9
    task = Task(server_round, 4, run="abc", visit=visit, after=after, needed=needed, settled=settled)
    return PersonalState.of(config, task, context())


def name(number, attempt=0):
    return f"{number}-{attempt:08x}"


def kept(folder):
    return sorted(path.stem.removeprefix("visit-") for path in (folder / "abc" / "client-4").glob("*.safetensors"))


def value(state):
    found = state.before()
    return found["w"].item() if found else None


def test_what_is_kept_comes_back_bit_for_bit_in_a_later_round(tmp_path):
    first = at(tmp_path, name(1))
    assert first.before() == {}
    first.keep(TENSORS)
    found = at(tmp_path, name(2), after=name(1)).before()
    assert all(torch.equal(found[name], value) and found[name].dtype == value.dtype for name, value in TENSORS.items())
    assert at(tmp_path, name(1, 1)).before() == {}  # a round that is played again begins where it began


@pytest.mark.parametrize("length", range(1, 17))
def test_what_comes_back_lies_where_torch_would_have_made_it(tmp_path, length):
    at(tmp_path, name(1)).keep({"x" * length: torch.arange(6.0), "y": torch.arange(6.0)})
    found = at(tmp_path, name(2), after=name(1)).before()
    assert [tensor.data_ptr() % 64 for tensor in found.values()] == [0, 0]


def test_only_the_visit_that_counts_is_gone_on_from(tmp_path):
    """Of three attempts at round 2 the server has taken the second."""
    attempts = " ".join(name(2, attempt) for attempt in range(3))
    for attempt in range(3):
        at(tmp_path, name(2, attempt), needed=attempts).keep({"w": torch.tensor([10.0 + attempt])})
    assert value(at(tmp_path, name(3), after=name(2, 1))) == 11
    assert value(at(tmp_path, name(3), after=name(2, 2))) == 12


def test_what_nobody_can_ask_for_is_let_go_of_and_this_visit_and_what_it_may_be_repeated_from_stay(tmp_path):
    for number in range(1, 4):
        at(tmp_path, name(number), after=name(number - 1), needed=" ".join(map(name, range(number)))).keep(TENSORS)
    assert kept(tmp_path) == [name(1), name(2), name(3)]
    at(tmp_path, name(4), after=name(3), needed=f"{name(2)} {name(3)}").keep(TENSORS)
    assert kept(tmp_path) == [name(2), name(3), name(4)]
    at(tmp_path, name(5), after=name(4)).keep(TENSORS)
    assert kept(tmp_path) == [name(4), name(5)]
    at(tmp_path, name(6)).keep(TENSORS)  # it goes on from nothing, and cannot tell what is old
    assert kept(tmp_path) == [name(4), name(5), name(6)]


def test_visits_of_settled_rounds_go_unless_they_are_needed(tmp_path):
    for number in range(1, 6):
        at(tmp_path, name(number)).keep(TENSORS)
    (tmp_path / "abc" / "client-4" / "visit-mine.safetensors").touch()  # no name of a visit, so of no round
    at(tmp_path, name(6), needed=f"{name(2)} {name(4)}", settled=3).keep(TENSORS)
    assert kept(tmp_path) == [name(2), name(4), name(5), name(6), "mine"]


def test_a_process_that_was_cut_off_leaves_what_later_visits_have_written(tmp_path):
    """It began in round 2, and ends when its client is at round 5."""
    at(tmp_path, name(1)).keep({"w": torch.ones(1)})
    late = at(tmp_path, name(2), after=name(1), needed=name(1))
    for number in (3, 4):
        at(tmp_path, name(number), after=name(number - 2), needed=name(number - 1)).keep({"w": torch.tensor([number])})
    late.keep({"w": torch.tensor([2.0])})
    assert {name(3), name(4)} <= {*kept(tmp_path)}
    assert value(at(tmp_path, name(5), after=name(4))) == 4
    at(tmp_path, name(5), after=name(4), needed=name(4)).keep({"w": torch.tensor([5.0])})
    assert kept(tmp_path) == [name(2), name(4), name(5)]  # the late one is newer than what this visit went on from
    at(tmp_path, name(6), after=name(5), needed=name(5)).keep(TENSORS)
    assert kept(tmp_path) == [name(5), name(6)]


def test_a_late_process_of_a_later_round_takes_nothing_from_a_server_that_was_resumed(tmp_path):
    """checkpoint.every = 2: round 3 is played again under a new name while round 4 of the first server is at work."""
    for number in (1, 2, 3):
        at(tmp_path, name(number), after=name(number - 1), needed=name(2)).keep(TENSORS)
    at(tmp_path, name(3, 1), after=name(2), needed=name(2)).keep(TENSORS)  # counts
    at(tmp_path, name(4), after=name(3), needed=f"{name(2)} {name(3)}").keep(TENSORS)
    assert name(3, 1) in kept(tmp_path)


def test_what_a_process_left_that_was_killed_while_it_wrote_is_deleted_in_time(tmp_path):
    at(tmp_path, name(1)).keep(TENSORS)
    (folder,) = {file.parent for file in tmp_path.rglob("visit-*")}
    old, new = folder / ".visit-1.safetensors.0.part", folder / ".visit-1.safetensors.1.part"
    for file in (old, new):
        file.touch()
    os.utime(old, (0, 0))
    at(tmp_path, name(2), after=name(1)).keep(TENSORS)
    assert not old.exists() and new.exists()


def test_a_message_that_is_delivered_late_takes_nothing_from_later_visits(tmp_path):
    """Not even from another attempt at its own round, of which it cannot know whether it counted."""
    for number in (2, 3, 4):
        at(tmp_path, name(number, 1), after=name(number - 1, 1), needed=name(number - 1, 1)).keep(TENSORS)
    before = kept(tmp_path)
    at(tmp_path, name(2), after=name(1), needed=name(1)).keep(TENSORS)
    assert kept(tmp_path) == sorted([*before, name(2)])


def test_the_test_after_the_last_round_lets_go_of_what_did_not_count(tmp_path):
    for attempt in (0, 1):
        at(tmp_path, name(3, attempt)).keep(TENSORS)
    task = Task(4, 4, run="abc", after=name(3, 1), needed=name(3, 1))
    PersonalState.of(RunConfig.parse(clients__state_path=str(tmp_path)), task, context()).let_go()
    assert kept(tmp_path) == [name(3, 1)]


def test_a_client_whose_state_is_gone_begins_anew_and_says_so(tmp_path, caplog):
    with caplog.at_level("WARNING", "flwr"):
        assert at(tmp_path, name(3), after=name(2)).before() == {}
        assert caplog.messages == []  # most clients have nothing to keep
        assert at(tmp_path, name(3), after=name(2)).keep(TENSORS)
        assert not at(tmp_path, name(4), after=name(3), needed=name(3)).keep(TENSORS)
    assert caplog.messages == [
        f"{tmp_path}/abc/client-4/visit-{name(2)}.safetensors is gone, or on another machine: this client began anew"
    ]


def test_a_crash_while_writing_leaves_the_state_before(tmp_path, monkeypatch):
    at(tmp_path, name(1)).keep({"w": torch.ones(1)})

    def full(descriptor):
        raise OSError("no space left")

    monkeypatch.setattr(whole_file.os, "fsync", full)
    with pytest.raises(OSError, match="no space left"):
        at(tmp_path, name(2), after=name(1)).keep({"w": torch.zeros(1)})
    assert kept(tmp_path) == [name(1)]
    assert value(at(tmp_path, name(2), after=name(1))) == 1


def test_a_damaged_file_is_named(tmp_path):
    at(tmp_path, name(1)).keep(TENSORS)
    file = tmp_path / "abc" / "client-4" / f"visit-{name(1)}.safetensors"
    file.write_bytes(file.read_bytes()[:20])
    with pytest.raises(ValueError, match=r"visit-1-0{8}\.safetensors is damaged .*; delete it to let this client"):
        at(tmp_path, name(2), after=name(1)).before()


@pytest.mark.parametrize("wrong", ["../../etc", "1", "1-xyz", "1-0011223", "-1-00112233", "1-00112233/x"])
def test_a_name_of_a_visit_that_leads_elsewhere_is_refused(wrong, tmp_path):
    for asked in ({"visit": wrong}, {"visit": name(1), "after": wrong}):
        with pytest.raises(ValueError, match="is no name of a visit"):
            at(tmp_path, **asked)


def test_a_name_of_a_run_that_leads_elsewhere_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"'\.\./\.\./etc' is no name of a run"):
        PersonalState.of(RunConfig.parse(), Task(1, 4, run="../../etc"), context())


def test_where_the_state_lies(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    config, task = RunConfig.parse(), Task(1, 4, run="abc")
    assert PersonalState.of(config, task, context()).folder == tmp_path / "state" / "fedhpro" / "abc" / "client-4"
    assert PersonalState.of(config, Task(1, 4), context()).folder.parent.name == "run-7"
    there = RunConfig.parse(run_folder=str(tmp_path))
    assert PersonalState.of(there, task, context()).folder == tmp_path / "clients" / "abc" / "client-4"
    elsewhere = RunConfig.parse(run_folder=str(tmp_path / "on-the-server-only"))
    assert PersonalState.of(elsewhere, task, context()).folder.is_relative_to(tmp_path / "state")
    named = RunConfig.parse(run_folder=str(tmp_path), clients__state_path=str(tmp_path / "named"))
    assert PersonalState.of(named, task, context()).folder.is_relative_to(tmp_path / "named")
    node = context(**{"state-path": str(tmp_path / "node")})
    assert PersonalState.of(named, task, node).folder.is_relative_to(tmp_path / "node")
    assert not any(path.is_dir() for path in tmp_path.iterdir())  # nothing is made before something is kept


def test_layers_that_share_a_weight_are_kept_each(tmp_path):
    layer = torch.nn.Linear(2, 2)
    tensors = torch.nn.Sequential(layer, torch.nn.ReLU(), layer).state_dict()
    at(tmp_path, name(1)).keep(tensors)
    found = at(tmp_path, name(2), after=name(1)).before()
    assert sorted(found) == ["0.bias", "0.weight", "2.bias", "2.weight"]
    assert all(torch.equal(value, tensors[name]) for name, value in found.items())


@pytest.mark.parametrize("of_node", [False, True])
def test_a_named_folder_that_cannot_be_written_is_refused_before_anything_is_kept(tmp_path, of_node):
    (tmp_path / "file").touch()
    place = str(tmp_path / "file" / "state")
    config = RunConfig.parse() if of_node else RunConfig.parse(clients__state_path=place)
    node = context(**{"state-path": place}) if of_node else context()
    who = "the node config says state-path" if of_node else "clients.state-path"
    with pytest.raises(ValueError, match=rf"^{who} = '{place}': nothing can be written in {tmp_path}/file \(Not a dir"):
        PersonalState.of(config, Task(1, 4, run="abc"), node)
