"""`model.path` at a model file: what a run begins with, which files are refused, and who needs the file."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from small_run import only_folder, run

from fedhpro_flwr import load_exported
from fedhpro_flwr.cli import main
from fedhpro_flwr.config import ConfigError, RunConfig
from fedhpro_flwr.engine import configured_model, federation
from fedhpro_flwr.initial_models import begins_trained, initial_model, initial_models, untrained_model
from fedhpro_flwr.models import MODELS, READS_PATH
from fedhpro_flwr.models.model import model as register
from fedhpro_flwr.report.build import write_report

DIGITS = {"data__train_limit": 120, "partition__num_partitions": 3, "model__name": "mlp", "model__width": 8}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of two rounds."""
    place = tmp_path_factory.mktemp("trained")
    assert run(place, rounds=2) == 0
    return only_folder(place)


def config(path: object, **changes: object) -> RunConfig:
    return RunConfig.parse(**DIGITS | {"model__path": str(path)} | changes)  # type: ignore[arg-type]


def same(model: torch.nn.Module, tensors: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(tensor, tensors[name]) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize("named", ["", "model.safetensors"])
def test_a_run_begins_with_the_model_that_another_left(named: str, trained: Path, tmp_path: Path):
    """With steps too small to move a float32 it ends with that model, too."""
    assert run(tmp_path, model__path=trained / named, seed=1, local__lr=1e-30) == 0
    left, began = (load_file(folder / "model.safetensors") for folder in (only_folder(tmp_path), trained))
    assert left.keys() == began.keys()
    assert all(torch.equal(tensor, began[name]) for name, tensor in left.items())
    settings = config(trained / named)
    assert same(initial_model(settings, federation(settings).data), began)


def test_only_who_keeps_a_part_of_its_model_reads_the_file(trained: Path):
    """A client that is sent its whole model needs no file, and neither does a server that goes on from a checkpoint."""
    gone = config("/no/such/file")
    data = federation(gone).data
    drawn = untrained_model(gone, data).state_dict()
    assert same(configured_model(gone, data), drawn)
    assert same(initial_models(gone, data, resumed=True)["mlp"], drawn)
    for keeps in ({"model__share": "head"}, {"method__name": "local"}):
        kept = config(trained, **keeps)
        assert same(configured_model(kept, data), load_file(trained / "model.safetensors"))
        with pytest.raises(ConfigError, match=r"^model\.path: /no/such/file does not exist; give a model.safetensors"):
            configured_model(config("/no/such/file", **keeps), data)


def test_a_file_of_another_model_is_refused_with_the_first_tensor_that_differs(trained: Path, tmp_path: Path):
    tensors = load_file(trained / "model.safetensors")
    data = federation(config(trained)).data

    def refusal(changed: dict[str, torch.Tensor], **changes: object) -> str:
        save_file(changed, tmp_path / "m.safetensors")
        settings = config(tmp_path / "m.safetensors", **changes)
        with pytest.raises(ConfigError) as refused:
            initial_model(settings, data)
        return str(refused.value).removeprefix(f"model.path = '{tmp_path / 'm.safetensors'}'")

    other = " holds other weights than a mlp of this run has: "
    assert refusal(tensors, model__width=16) == f"{other}encoder.1.bias is float32 [8], here float32 [16]"
    assert refusal(tensors | {"z": torch.ones(1)}) == f"{other}z is float32 [1], here missing"
    double = tensors | {"head.bias": tensors["head.bias"].double()}
    assert refusal(double) == f"{other}head.bias is float64 [10], here float32 [10]"
    without = {name: tensor for name, tensor in tensors.items() if name != "head.bias"}
    assert refusal(without) == f"{other}head.bias is missing, here float32 [10]"
    broken = tensors | {"head.bias": tensors["head.bias"] * torch.nan}
    assert refusal(broken) == ": head.bias holds NaN or infinite numbers; its run diverged"


def test_a_file_that_is_none_ends_the_run_with_a_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "m.safetensors").write_bytes(b"no")
    assert run(tmp_path, model__path=tmp_path / "m.safetensors") == 1
    said = capsys.readouterr().err.splitlines()[-1]
    assert f"the run failed: model.path = '{tmp_path / 'm.safetensors'}' is damaged or no safetensors file (" in said
    (tmp_path / "empty").mkdir()
    assert run(tmp_path, model__path=tmp_path / "empty") == 1
    assert "the run failed: model.path: " in capsys.readouterr().err.splitlines()[-1]


def test_the_path_of_an_architecture_that_is_built_from_it_is_no_other_ones_model(trained: Path, monkeypatch):
    """As an hf-encoder's folder, which holds a model.safetensors too, beside clients with another architecture."""
    monkeypatch.setattr("fedhpro_flwr.initial_models.READS_PATH", {"cnn"})
    settings = config(trained, model__groups="cnn=1, mlp=2", model__share="head")
    data = federation(settings).data
    for name in ("mlp", "cnn"):
        assert same(initial_model(settings, data, name), untrained_model(settings, data, name).state_dict())
    assert not begins_trained(settings)


def test_of_a_run_with_several_encoders_each_architecture_begins_with_its_own(tmp_path: Path):
    groups = {"model__groups": "cnn=2, mlp=1", "model__share": "group"}
    assert run(tmp_path, **groups) == 0
    folder = only_folder(tmp_path)
    settings = config(folder, **groups)
    data = federation(settings).data
    for name in ("cnn", "mlp"):
        assert same(initial_model(settings, data, name), load_file(folder / f"model-{name}.safetensors"))


def test_a_file_that_was_replaced_is_read_anew_in_the_same_process(trained: Path, tmp_path: Path):
    path = tmp_path / "m.safetensors"
    tensors = load_file(trained / "model.safetensors")
    for value in (0.25, 0.5):
        save_file({name: torch.full_like(tensor, value) for name, tensor in tensors.items()}, path)
        for settings in (config(path), config(path, model__share="head"), config(path, method__name="local")):
            model = configured_model(settings, federation(settings).data)
            began = settings.model.share == "head" or settings.method.name == "local"
            assert bool((model.encoder[1].weight == value).all()) == began


def test_an_exported_model_neither_needs_the_file_nor_names_it(trained: Path, tmp_path: Path):
    assert run(tmp_path, model__path=trained) == 0
    described = load_exported(only_folder(tmp_path)).description
    assert described.encoder is None
    assert "model.path" not in described.settings


def test_a_run_goes_on_and_is_reported_without_the_file(trained: Path, tmp_path: Path):
    base = shutil.copytree(trained, tmp_path / "base")
    folder = tmp_path / "run"
    assert run(tmp_path, model__path=base, run_folder=folder) == 0
    shutil.rmtree(base)
    assert main(["run", "--resume", str(folder), "--set", "rounds=2", "--engine", "in-process"]) == 0
    text = write_report([folder], tmp_path / "report").read_text(encoding="utf-8")
    assert "no picture" not in text


def test_a_home_may_be_written_short(trained: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HOME", str(trained.parent))
    settings = config(f"~/{trained.name}")
    assert same(initial_model(settings, federation(settings).data), load_file(trained / "model.safetensors"))


def test_a_builder_that_reads_the_path_itself_is_left_alone(monkeypatch: pytest.MonkeyPatch):
    seen = []

    def reader(shape):
        seen.append(shape.path)
        return MODELS["mlp"](shape)

    register("reads", reads_path=True)(reader)
    try:
        settings = config("/my/encoder", model__name="reads")
        initial_model(settings, federation(settings).data)
    finally:
        del MODELS["reads"]
        READS_PATH.discard("reads")
    assert seen == ["/my/encoder"]
