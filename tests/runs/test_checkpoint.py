"""A checkpoint comes back bit for bit or is named as damaged; the last two of a run are kept."""

import json
import shutil
from dataclasses import asdict, replace
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file, save_file

from fedhpro_flwr.config import ConfigError, RunConfig
from fedhpro_flwr.exchange import GlobalModel
from fedhpro_flwr.methods import build_method
from fedhpro_flwr.runs.checkpoint import About, Checkpoint, RunSoFar, checksum
from fedhpro_flwr.runs.checkpoints import Checkpoints, newest
from fedhpro_flwr.runs.reports import RoundReport
from fedhpro_flwr.runs.run_folder import rounds_in
from fedhpro_flwr.visits import Visits

ABOUT = About(
    "0a1b2c3d",
    7,
    {0: "7-0a1b2c3d", 4: "5-00112233"},
    settings=RunConfig.parse(local__lr=0.1, data__path='ü "b"').flat(),
    code="code",
    data="data",
)
SHARED = {"head.weight": torch.randn(3, 4), "head.bias": torch.tensor([1.0, 1e-45, -0.0])}
ENCODERS = {
    "text-cnn": {"encoder.0.weight": torch.randn(4, 2, 3, 3).to(memory_format=torch.channels_last)},
    "mlp": {"encoder.count": torch.tensor(7), "encoder.empty": torch.zeros(0, 4)},
}
CHECKPOINT = Checkpoint(ABOUT, SHARED, ENCODERS, {"known": torch.tensor([True, False])}, {"rounds": torch.arange(1, 8)})


def bits(tensors):
    return {
        name: (tensor.dtype, tensor.shape, tensor.contiguous().numpy().tobytes()) for name, tensor in tensors.items()
    }


def test_everything_comes_back_bit_for_bit(tmp_path):
    CHECKPOINT.write(tmp_path / "round-7.safetensors")
    read = Checkpoint.read(tmp_path / "round-7.safetensors")
    assert read.about == ABOUT
    for part in ("shared", "method", "trace"):
        assert bits(getattr(read, part)) == bits(getattr(CHECKPOINT, part))
    assert read.encoders.keys() == ENCODERS.keys()
    assert all(bits(read.encoders[group]) == bits(ENCODERS[group]) for group in ENCODERS)
    assert [path.name for path in tmp_path.iterdir()] == ["round-7.safetensors"]


@pytest.mark.parametrize("length", range(0, 64, 4))
def test_tensors_lie_where_torch_would_have_made_them(tmp_path, length):
    """And not at the file's offsets, which move with the settings' length: products would have other last bits."""
    about = replace(ABOUT, settings=ABOUT.settings | {"run-folder": "x" * length})
    replace(CHECKPOINT, about=about).write(tmp_path / "one")
    read = Checkpoint.read(tmp_path / "one")
    tensors = [*read.shared.values(), *read.method.values(), *read.trace.values(), *read.encoders["text-cnn"].values()]
    assert [tensor.data_ptr() % 64 for tensor in tensors] == [0] * len(tensors)


def test_tensors_that_share_their_memory_are_no_problem(tmp_path):
    head = torch.arange(6.0)
    Checkpoint(ABOUT, {"a": head, "b": head[2:]}, method={"c": head}).write(tmp_path / "one")
    assert Checkpoint.read(tmp_path / "one").shared["b"].tolist() == [2, 3, 4, 5]


def test_a_flipped_bit_anywhere_is_noticed(tmp_path):
    path = tmp_path / "round-7.safetensors"
    CHECKPOINT.write(path)
    content = path.read_bytes()
    for place in range(0, len(content), 41):
        broken = bytearray(content)
        broken[place] ^= 4
        path.write_bytes(broken)
        with pytest.raises(ValueError, match=r"round-7\.safetensors is damaged"):
            Checkpoint.read(path)


def test_a_model_that_is_not_finite_is_no_checkpoint_whatever_its_checksum_says(tmp_path):
    path = tmp_path / "round-7.safetensors"
    Checkpoint(ABOUT, {"a": torch.tensor([0, torch.nan])}, method={"best": torch.tensor(torch.inf)}).write(path)
    with pytest.raises(ValueError) as refused:
        Checkpoint.read(path)
    assert str(refused.value) == f"{path} is damaged (model/a is not finite)"
    Checkpoint(ABOUT, {"a": torch.zeros(2)}, method={"best": torch.tensor(torch.inf)}).write(path)
    assert Checkpoint.read(path).method["best"] == torch.inf


@pytest.mark.parametrize("length", [0, 5, 100, -1])
def test_a_file_that_was_cut_short_is_noticed(tmp_path, length):
    path = tmp_path / "round-7.safetensors"
    CHECKPOINT.write(path)
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(ValueError, match="is damaged"):
        Checkpoint.read(path)


def test_a_file_of_something_else_is_no_checkpoint(tmp_path):
    path = tmp_path / "round-1.safetensors"
    save_file({"w": torch.ones(1)}, path)
    with pytest.raises(ValueError) as refusal:
        Checkpoint.read(path)
    assert str(refusal.value) == f"{path} is damaged (it is no checkpoint, or one of another release)"


@pytest.mark.parametrize(
    "written",
    [
        {"server_round": "x"}, {"server_round": 3.5}, {"run": 5}, {"settings": []}, {"settings": {"local.lr": {}}},
        {"counted": {"0": [1]}}, {"named": ["x"]}, {"stand_ins": {"x": 7}}, {"data": None}, {"newer": 1}, [], 5,
    ],
)  # fmt: skip
def test_what_it_is_of_must_have_the_kinds_that_are_written(tmp_path, written):
    """A right checksum says that nothing was lost, not who wrote it."""
    about = json.loads(json.dumps(asdict(ABOUT)))
    about = json.dumps(about | written if isinstance(written, dict) else written)
    save_file(SHARED, tmp_path / "one", {"about": about, "checksum": checksum(about, SHARED)})
    with pytest.raises(ValueError, match=r"one is damaged \(it is no checkpoint, or one of another release\)$"):
        Checkpoint.read(tmp_path / "one")


def test_what_it_is_of_may_be_nested_too_deeply(tmp_path):
    about = "[" * 100_000
    save_file(SHARED, tmp_path / "one", {"about": about, "checksum": checksum(about, SHARED)})
    with pytest.raises(ValueError, match=r"one is damaged \(it is nested too deeply\)$"):
        Checkpoint.read(tmp_path / "one")


def test_the_model_has_the_order_and_the_members_of_the_start():
    start = GlobalModel(dict(reversed(SHARED.items())), {"mlp": {}, "text-cnn": ENCODERS["text-cnn"]}, ["mlp"])
    checkpoint = Checkpoint(ABOUT, SHARED, {"text-cnn": ENCODERS["text-cnn"]})
    model = checkpoint.model(start)
    assert list(model.shared) == ["head.bias", "head.weight"]
    assert (model.groups, model.members) == (("mlp", "text-cnn"), ["mlp"])
    assert torch.equal(model.shared["head.weight"], SHARED["head.weight"])


def test_another_model_is_refused():
    wider = GlobalModel({"head.weight": torch.zeros(3, 5), "head.bias": torch.zeros(3)})
    with pytest.raises(ConfigError) as refused:
        Checkpoint(ABOUT, SHARED).model(wider)
    assert str(refused.value) == (
        "the checkpoint of round 7 is of another model: head.weight is float32 [3, 4], here float32 [3, 5]; "
        "begin a new run"
    )
    more = SHARED | {"scale": torch.ones(1)}
    with pytest.raises(ConfigError, match=r": scale is missing, here float32 \[1\]; begin a new run$"):
        Checkpoint(ABOUT, SHARED).model(GlobalModel(more))
    with pytest.raises(ConfigError, match=r": scale is float32 \[1\], here missing; begin a new run$"):
        Checkpoint(ABOUT, more).model(GlobalModel(SHARED))
    halves = {name: tensor.half() for name, tensor in SHARED.items()}
    with pytest.raises(ConfigError, match=r": head\.bias is float16 \[3\], here float32 \[3\]; begin a new run$"):
        Checkpoint(ABOUT, halves).model(GlobalModel(SHARED))


def observed(tmp_path, rounds, every, of=None):
    """The rounds that checkpoints are left of after each round."""
    config = RunConfig.parse(rounds=of or rounds, checkpoint__every=every)
    method = build_method(config)
    server = SimpleNamespace(
        config=config, num_rounds=config.rounds, method=method, model=GlobalModel(SHARED), so_far=RunSoFar("ab"),
        data="", clients=SimpleNamespace(visits=Visits(), roster=SimpleNamespace(named=(0, 2), stand_ins={1: 7})),
        state=method.start({"head.weight": torch.zeros(3, 4), "head.bias": torch.zeros(3)}),
    )  # fmt: skip
    trace = SimpleNamespace(tensors=lambda: {})
    checkpoints, left = Checkpoints(server, trace, tmp_path), []
    for server_round in range(1, rounds + 1):
        checkpoints.on_round(SimpleNamespace(server_round=server_round))
        left.append(rounds_in(tmp_path / "checkpoint"))
    return left


def tell(folder, rounds):
    """As the run's own metrics do."""
    lines = [json.dumps(RoundReport(number, 0.5, {}, {}, {}, {}, []).line()) for number in range(1, rounds + 1)]
    (folder / "metrics.jsonl").write_text("".join(line + "\n" for line in lines))


def test_the_last_two_are_kept(tmp_path):
    assert observed(tmp_path, 4, 1) == [[1], [1, 2], [2, 3], [3, 4]]
    assert load_file(tmp_path / "checkpoint" / "round-4.safetensors").keys() >= {"method/hyper-prototypes"}


def test_a_run_folder_that_is_not_there_is_made(tmp_path):
    assert observed(tmp_path / "new" / "run", 1, 1) == [[1]]


def test_every_third_round_and_the_last(tmp_path):
    assert observed(tmp_path, 7, 3) == [[], [], [3], [3], [3], [3, 6], [6, 7]]


def test_none_where_they_are_off(tmp_path):
    assert observed(tmp_path, 3, 0) == [[], [], []]
    assert list(tmp_path.iterdir()) == []


def test_what_is_left_of_later_rounds_of_an_earlier_attempt_goes(tmp_path):
    observed(tmp_path, 9, 1)
    (tmp_path / "checkpoint" / "round-8.safetensors").rename(tmp_path / "checkpoint" / "round-2.safetensors")
    assert observed(tmp_path, 3, 3, of=30)[-1] == [2, 3]


def test_a_file_that_is_named_after_no_round_is_passed_over(tmp_path):
    for name in ("round-2", "round-10", "round-2 (copy)", "round-last"):
        (tmp_path / f"{name}.safetensors").touch()
    assert rounds_in(tmp_path) == [2, 10]


def test_the_newest_good_one_is_found_and_the_damaged_ones_are_named(tmp_path):
    assert newest(tmp_path).checkpoint is None
    observed(tmp_path, 3, 1)
    tell(tmp_path, 3)
    assert newest(tmp_path).checkpoint.about.server_round == 3
    last = tmp_path / "checkpoint" / "round-3.safetensors"
    last.write_bytes(last.read_bytes()[:-1])
    found = newest(tmp_path)
    assert found.checkpoint.about.server_round == 2
    assert len(found.passed_over) == 1 and str(last) in found.passed_over[0]
    (tmp_path / "checkpoint" / "round-2.safetensors").write_bytes(b"")
    with pytest.raises(ValueError, match=r"round-3.* is damaged .*; .*round-2.* is damaged"):
        newest(tmp_path)


def test_a_checkpoint_under_the_name_of_another_round_is_passed_over(tmp_path):
    observed(tmp_path, 3, 1)
    tell(tmp_path, 3)
    folder = tmp_path / "checkpoint"
    shutil.copy(folder / "round-2.safetensors", folder / "round-3.safetensors")
    found = newest(tmp_path)
    assert found.checkpoint.about.server_round == 2
    assert found.passed_over == [f"{folder / 'round-3.safetensors'} is of round 2"]
