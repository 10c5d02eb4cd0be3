"""A model's file from elsewhere: checked before memory is spent, refused in a sentence, nothing in it executed."""

import json
import pickle
from types import SimpleNamespace

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from fedhpro_flwr import ConfigError, load_exported
from fedhpro_flwr.config import RunConfig
from fedhpro_flwr.exported.describe import describe, portable
from fedhpro_flwr.exported.description import KEY, ModelDescription


def changed(digits, tmp_path, tensors=None, **changes):
    """A copy of the run's model whose description says something else."""
    file = digits.folder / "model.safetensors"
    with safe_open(file, framework="pt") as opened:
        described = json.loads(opened.metadata()[KEY]) | changes
    save_file(load_file(file) | (tensors or {}), tmp_path / "changed.safetensors", {KEY: json.dumps(described)})
    return tmp_path / "changed.safetensors"


def refusal(path, **options):
    with pytest.raises(ConfigError) as refused:
        load_exported(path, **options)
    assert str(refused.value).count("\n") == 0
    return str(refused.value)


CHANGES = [
    ({"architecture": "vgg"}, "model.name = 'vgg' is unknown, there are: cnn, "),
    ({"architecture": "mlp"}, "its tensors are not those of a mlp for grey images of 8x8 pixels and 10 classes"),
    ({"architecture": "fasttext"}, "model 'fasttext' needs text"),
    ({"width": 10**5}, "its tensors are not those of a cnn"),
    ({"width": 10**18}, "(width: Input should be less than or equal to 1048576)"),
    ({"mean": [float("nan")]}, "(mean.0: Input should be a finite number)"),
    ({"width": -1}, "(width: Input should be greater than or equal to 0)"),
    ({"input_shape": [1, 10**6, 10**6]}, "(description: Value error, uint8-images of shape [1, 1000000, 1000000])"),
    ({"input_shape": [2, 8, 8]}, "mean and std of 1 and 1 numbers for 2 channels"),
    ({"class_names": ["a", "b"]}, "its tensors are not those of a cnn for grey images of 8x8 pixels and 2 classes"),
    ({"mean": [0.5, 0.5]}, "mean and std of 2 and 1 numbers for 1 channels"),
    ({"std": [0.0]}, "(std.0: Input should be greater than 0)"),
    ({"run": "rm -rf"}, "(run: Extra inputs are not permitted)"),
    ({"threads": 2**20}, "(threads: Input should be less than or equal to 1024)"),
    ({"batch_size": 2**70}, "(batch_size: Input should be"),
    ({"format": 2}, "(format: Input should be 1)"),
    ({"encoder": {"name": "e.pth", "sha256": "../../etc"}}, "encoder.sha256"),
]


@pytest.mark.parametrize(("changes", "sentence"), CHANGES, ids=[str(case[0])[:40] for case in CHANGES])
def test_a_description_that_cannot_be_is_refused(changes, sentence, digits, tmp_path):
    path = changed(digits, tmp_path, **changes)
    said = refusal(path)
    assert said.startswith(f"{path}: ") and sentence in said


def test_other_tensors_are_refused_by_name(digits, tmp_path):
    said = refusal(changed(digits, tmp_path, {"head.bias": torch.zeros(10, dtype=torch.float64)}))
    assert "classes: head.bias is float64 [10], here float32 [10]; it is damaged" in said
    assert "classes: more is float32 [1], here missing; " in refusal(
        changed(digits, tmp_path, {"more": torch.zeros(1)})
    )


@pytest.mark.parametrize("number", [float("nan"), float("-inf")])
def test_weights_that_predict_nothing_are_refused(number, digits, tmp_path):
    said = refusal(changed(digits, tmp_path, {"head.bias": torch.tensor([number] + 9 * [0.0])}))
    assert "head.bias holds NaN or infinite numbers" in said and "its run diverged" in said


class Harm:
    """Raises where a pickle is read."""

    def __reduce__(self):
        return (pytest.fail, ("a pickle was executed",))


def test_files_of_other_kinds(digits, tmp_path):
    assert "does not exist; give a model.safetensors or the folder" in refusal(tmp_path / "none")
    assert "holds no model.safetensors: the run has not finished" in refusal(tmp_path)
    (tmp_path / "a.safetensors").write_bytes(pickle.dumps(Harm()))
    assert "is damaged or no safetensors file" in refusal(tmp_path / "a.safetensors")
    (tmp_path / "a.safetensors").write_bytes((digits.folder / "model.safetensors").read_bytes()[:-1])
    assert "is damaged or no safetensors file" in refusal(tmp_path / "a.safetensors")
    for other in ("hyper-prototypes.safetensors", "checkpoint/round-2.safetensors"):
        assert refusal(digits.folder / other) == (
            f"{digits.folder / other} does not say what its model takes: give a run's model.safetensors, or the run's "
            "folder; that of an old version, which does not say it either, must be run again"
        )
    assert "device 'tpu': allowed are 'cpu', 'cuda' and 'auto'" in refusal(digits.folder, device="tpu")


def test_a_file_says_nothing_of_where_things_lay():
    places = {
        "data.root": "/home/me/data", "data.path": "/home/me/mine.npz", "data.tokenizer": "/home/me/bert",
        "run-folder": "/home/me/run", "results-dir": "/home/me", "clients.state-path": "/home/me/state",
        "evaluation.alone": "/home/me/alone", "data.weights": "/home/me/w.pth", "model.path": "/home/me/m",
    }  # fmt: skip
    kept = portable(RunConfig.parse(places))
    assert "/home" not in json.dumps(kept)
    assert (kept["data.path"], kept["data.tokenizer"], "model.path" in kept) == ("mine.npz", "bert", False)
    assert portable(RunConfig.parse(places, model__name="hf-encoder"))["model.path"] == "m"
    assert portable(RunConfig.parse({}))["data.tokenizer"] == "hashing"


@pytest.mark.parametrize(("share", "holds"), [("all", "model"), ("group", "model"), ("head", "head")])
def test_a_description_says_how_the_run_tests(share, holds):
    settings = {"evaluation.batch-size": 64, "clients.threads": 3, "model.width": 8, "model.share": share}
    data = SimpleNamespace(
        input_shape=(3, 8, 8), vocabulary=0, class_names=("a", "b"), mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6),
        has_float_images=False,
    )  # fmt: skip
    said = describe(RunConfig.parse(settings | {"model.name": "vit"}), data, ["", "mlp"])
    assert [each.architecture for each in said.values()] == ["vit", "mlp"]
    for each in said.values():
        assert (each.batch_size, each.threads, each.width, each.holds) == (64, 3, 8, holds)
        assert (each.mean, each.std, each.input_kind) == ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6), "uint8-images")
        assert (each.encoder, each.tokenizer, each.accuracy) == (None, None, None)


def test_equal_runs_leave_equal_files(digits, run_of, tmp_path):
    again = run_of(tmp_path / "again")
    name = "model.safetensors"
    assert (again.folder / name).read_bytes() == (digits.folder / name).read_bytes()


LABELS = [
    ("cat", 0, None), ("3", 2, None), ("1", None, 1), ("002", None, 2), ("0", None, 0), ("000", None, 0),
    ("-1", None, None), ("", None, None), ("²", None, None), ("9" * 5000, None, None),
]  # fmt: skip


@pytest.mark.parametrize(("written", "named", "numbered"), LABELS)
def test_labels_are_names_or_ids(written, named, numbered):
    described = ModelDescription(
        architecture="mlp", width=0, input_kind="vectors", input_shape=(3,), class_names=("cat", "dog", "3"),
        mean=(0.0,), std=(1.0,),
    )  # fmt: skip
    assert (described.named(written), described.numbered(written)) == (named, numbered)
