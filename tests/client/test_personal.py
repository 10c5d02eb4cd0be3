"""What a client keeps between rounds."""

import pytest
import torch
from flwr.app import Context, RecordDict

from fedhpro_flwr import whole_file
from fedhpro_flwr.client.personal import PersonalState
from fedhpro_flwr.config import RunConfig
from fedhpro_flwr.records import Task

TENSORS = {"encoder.w": torch.arange(6.0).view(2, 3).T, "encoder.n": torch.tensor(3)}


def context(**node_config):
    return Context(run_id=7, node_id=1, node_config=node_config, state=RecordDict(), run_config={})


def test_what_is_kept_comes_back_bit_for_bit_in_a_later_round(tmp_path):
    state = PersonalState(tmp_path / "client-0")
    assert state.before(1) is None
    state.keep(1, TENSORS)
    found = state.before(2)
    assert all(torch.equal(found[name], value) and found[name].dtype == value.dtype for name, value in TENSORS.items())
    assert state.before(1) is None  # a round that is played again begins where it began


@pytest.mark.parametrize("length", range(1, 17))
def test_what_comes_back_lies_where_torch_would_have_made_it(tmp_path, length):
    state = PersonalState(tmp_path)
    state.keep(1, {"x" * length: torch.arange(6.0), "y": torch.arange(6.0)})
    assert [tensor.data_ptr() % 64 for tensor in state.before(2).values()] == [0, 0]


def test_the_newest_before_the_round_counts_and_two_are_kept(tmp_path):
    state = PersonalState(tmp_path)
    for number in (1, 2, 5, 9):
        state.keep(number, {"w": torch.tensor([float(number)])})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["round-5.safetensors", "round-9.safetensors"]
    assert state.before(30)["w"].item() == 9
    assert state.before(9)["w"].item() == 5


def test_a_client_of_every_round_keeps_what_the_last_two_checkpoints_need(tmp_path):
    state = PersonalState(tmp_path, checkpoint_every=1)
    for number in range(1, 7):
        state.keep(number, {"w": torch.ones(1)})
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"round-{number}.safetensors" for number in (4, 5, 6)]


def test_few_checkpoints_need_few_files(tmp_path):
    state = PersonalState(tmp_path, checkpoint_every=10)
    for number in range(1, 28):
        state.keep(number, {"w": torch.ones(1)})
    kept = sorted(int(path.stem.removeprefix("round-")) for path in tmp_path.iterdir())
    assert kept == [10, 20, 26, 27]


def test_what_an_abandoned_attempt_kept_does_not_count(tmp_path):
    first = PersonalState(tmp_path)
    for number in range(1, 6):
        first.keep(number, {"w": torch.tensor([float(number)])})
    resumed = PersonalState(tmp_path, resumed_at=(3,))  # in which this client's round 4 was lost
    assert resumed.before(5)["w"].item() == 3
    resumed.keep(5, {"w": torch.tensor([50.0])})
    assert resumed.before(6)["w"].item() == 50
    again = PersonalState(tmp_path, resumed_at=(3, 5))
    assert again.before(7)["w"].item() == 50
    earlier = PersonalState(tmp_path, resumed_at=(3, 4))  # its newest checkpoint was damaged
    assert earlier.before(7)["w"].item() == 3


def test_the_task_says_where_the_run_was_resumed():
    config = RunConfig.parse(checkpoint__every=4)
    state = PersonalState.of(config, Task(19, 0, run="abc", resumed_at="9 17"), context())
    assert (state.checkpoint_every, state.resumed_at) == (4, (9, 17))


def test_a_round_played_again_replaces_its_state(tmp_path):
    state = PersonalState(tmp_path)
    for number, value in ((4, 1.0), (5, 2.0), (5, 3.0)):
        state.keep(number, {"w": torch.tensor([value])})
    assert (state.before(6)["w"].item(), state.before(5)["w"].item()) == (3.0, 1.0)


def test_a_crash_while_writing_leaves_the_state_before(tmp_path, monkeypatch):
    state = PersonalState(tmp_path)
    state.keep(1, {"w": torch.ones(1)})

    def full(descriptor):
        raise OSError("no space left")

    monkeypatch.setattr(whole_file.os, "fsync", full)
    with pytest.raises(OSError, match="no space left"):
        state.keep(2, {"w": torch.zeros(1)})
    assert state.before(3)["w"].item() == 1


def test_a_damaged_file_is_named(tmp_path):
    state = PersonalState(tmp_path)
    state.keep(1, TENSORS)
    file = tmp_path / "round-1.safetensors"
    file.write_bytes(file.read_bytes()[:20])
    with pytest.raises(ValueError, match=r"round-1\.safetensors is damaged"):
        state.before(2)


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
    state = PersonalState(tmp_path)
    state.keep(1, tensors)
    assert sorted(state.before(2)) == ["0.bias", "0.weight", "2.bias", "2.weight"]
    assert all(torch.equal(value, tensors[name]) for name, value in state.before(2).items())


@pytest.mark.parametrize("of_node", [False, True])
def test_a_named_folder_that_cannot_be_written_is_refused_before_anything_is_kept(tmp_path, of_node):
    (tmp_path / "file").touch()
    place = str(tmp_path / "file" / "state")
    config = RunConfig.parse() if of_node else RunConfig.parse(clients__state_path=place)
    node = context(**{"state-path": place}) if of_node else context()
    who = "the node config says state-path" if of_node else "clients.state-path"
    with pytest.raises(ValueError, match=rf"^{who} = '{place}': nothing can be written in {tmp_path}/file \(Not a dir"):
        PersonalState.of(config, Task(1, 4, run="abc"), node)
