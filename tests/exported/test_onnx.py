"""The ONNX graph computes what the model does, for every architecture and any number of samples."""

import json
import sys

import numpy as np
import pytest
import torch
from torch import nn

from fedhpro_flwr import ConfigError, RunConfig, load_exported
from fedhpro_flwr.cli import main
from fedhpro_flwr.data.csv_rows import csv_rows
from fedhpro_flwr.exchange import GlobalModel
from fedhpro_flwr.exported import onnx_graph
from fedhpro_flwr.exported.description import KEY, ModelDescription
from fedhpro_flwr.exported.model import ExportedModel
from fedhpro_flwr.exported.onnx_graph import write_onnx
from fedhpro_flwr.models import Model, build
from fedhpro_flwr.runs.run_folder import RunFolder

onnx = pytest.importorskip("onnx")
runtime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")


def logits(path, samples):
    session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(["logits"], {"inputs": samples})[0]


def test_the_whole_test_set_is_predicted_alike(digits, tmp_path, capfd):
    out = tmp_path / "digits.onnx"
    assert main(["export", str(digits.folder), "--onnx", "--out", str(out)]) == 0
    assert "onnxruntime computes the same" in capfd.readouterr().out
    given = logits(out, digits.test.inputs.numpy())  # uint8, as they are stored
    expected = load_exported(digits.folder).predict(digits.test.inputs)
    np.testing.assert_allclose(given, expected.logits.numpy(), atol=1e-5)
    assert np.array_equal(given.argmax(1), expected.labels.numpy())
    properties = {each.key: each.value for each in onnx.load(out).metadata_props}
    assert json.loads(properties["class-names"]) == [str(digit) for digit in range(10)]
    assert ModelDescription.model_validate_json(properties[KEY]).accuracy == digits.tested["accuracy"]


def test_texts(texts, tmp_path):
    model = load_exported(texts.folder)
    write_onnx(model, tmp_path / "texts.onnx")
    tokens = model.inputs([row.fields[1] for row in csv_rows(texts.csv)])
    given = logits(tmp_path / "texts.onnx", tokens.numpy())
    np.testing.assert_allclose(given, model.of_inputs(tokens).logits.numpy(), atol=1e-5)


KINDS = [
    ("mlp", "float-images", (1, 6, 6)),
    ("projection", "features", (10,)),
    ("vit", "uint8-images", (3, 8, 8)),
    ("text-cnn", "text", (7,)),
    ("text-transformer", "text", (7,)),
]


@pytest.mark.parametrize(("name", "kind", "shape"), KINDS, ids=[case[0] for case in KINDS])
def test_architectures_become_graphs_of_any_batch_size(name, kind, shape, tmp_path):
    vocabulary, channels = 20 if kind == "text" else 0, shape[0] if len(shape) == 3 else 1
    model = build(name, input_shape=shape, num_classes=3, width=8, vocabulary=vocabulary, seed=0).eval()
    described = ModelDescription(
        architecture=name, width=8, input_kind=kind, input_shape=shape, class_names=("a", "b", "c"),
        mean=(0.4,) * channels, std=(0.3,) * channels, vocabulary=vocabulary,
    )  # fmt: skip
    assert write_onnx(ExportedModel(model, described), tmp_path / "m.onnx") < 1e-5


class Gated(nn.Module):
    """An encoder with a forward of its own."""

    def __init__(self, bag):
        super().__init__()
        self.bag, self.gate = bag, nn.Linear(8, 8)

    def forward(self, tokens):
        z = self.bag(tokens)
        return z * torch.sigmoid(self.gate(z))


BAGS = {
    "counts-padding": lambda: nn.Sequential(nn.EmbeddingBag(20, 8), nn.Linear(8, 8), nn.ReLU()),
    "leaves-it-out": lambda: Gated(nn.EmbeddingBag(20, 8, padding_idx=0)),
    "within": lambda: nn.Sequential(Gated(nn.EmbeddingBag(20, 8, padding_idx=0)), nn.ReLU()),
    "sum": lambda: nn.Sequential(nn.EmbeddingBag(20, 8, mode="sum", padding_idx=3), nn.ReLU()),
    "alone": lambda: nn.EmbeddingBag(20, 8),
}


def of_texts(encoder):
    """A model of texts of seven tokens, three classes."""
    described = ModelDescription(
        architecture="mine", width=8, input_kind="text", input_shape=(7,), class_names=("a", "b", "c"), mean=(0.0,),
        std=(1.0,), vocabulary=20,
    )  # fmt: skip
    return ExportedModel(Model(encoder, nn.Linear(8, 3)).eval(), described)


@pytest.mark.parametrize("kind", BAGS)
def test_bags_of_words_of_any_kind_compute_the_same_with_padding(kind, tmp_path):
    torch.manual_seed(0)
    model = of_texts(BAGS[kind]())
    assert write_onnx(model, tmp_path / "m.onnx") < 1e-5
    tokens = torch.zeros(2, 7, dtype=torch.int32)
    tokens[0, :2] = torch.tensor([5, 3])  # and five of padding; the other text has nothing else
    given = logits(tmp_path / "m.onnx", tokens.numpy())
    torch.testing.assert_close(torch.from_numpy(given), model.of_inputs(tokens).logits, atol=1e-5, rtol=0)


def test_a_graph_that_onnxruntime_does_not_take_is_a_sentence(tmp_path):
    with pytest.raises(ConfigError, match=r"^onnxruntime takes no graph of a mine \("):
        write_onnx(of_texts(nn.Sequential(nn.EmbeddingBag(20, 8, mode="max"), nn.ReLU())), tmp_path / "m.onnx")
    assert list(tmp_path.iterdir()) == []


def test_a_graph_that_computes_something_else_is_not_written(digits, tmp_path, monkeypatch):
    monkeypatch.setattr(onnx_graph, "TOLERANCE", -1.0)
    with pytest.raises(ConfigError, match="was not written: the graph's logits differ from the model's by"):
        write_onnx(load_exported(digits.folder), tmp_path / "m.onnx")
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_writes_its_model_again_leaves_no_graph_of_the_one_before(tmp_path):
    for name in ("model.onnx", "model-cnn.onnx", "mine.onnx"):
        (tmp_path / name).touch()
    head = {"head.bias": torch.ones(2)}
    with RunFolder(tmp_path, RunConfig.parse()) as folder:
        folder.models(GlobalModel(head), {})
        assert {path.name for path in tmp_path.glob("*.onnx")} == {"model-cnn.onnx", "mine.onnx"}
        folder.models(GlobalModel(head, {"cnn": {}}, ["cnn"]), {})
    assert {path.name for path in tmp_path.glob("*.onnx")} == {"mine.onnx"}


def test_an_architecture_that_has_no_graph_is_a_sentence(digits, tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise RuntimeError("no operator\nfor this")

    monkeypatch.setattr(onnx_graph.torch.onnx, "export", refuse)
    with pytest.raises(ConfigError, match=r"^a cnn cannot be written as an ONNX graph \(no operator for this\)$"):
        write_onnx(load_exported(digits.folder), tmp_path / "m.onnx")
    assert list(tmp_path.iterdir()) == []


def test_a_missing_package_is_named(digits, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(ConfigError, match=r"ONNX needs the package onnxscript: `pip install 'fedhpro-flwr\[onnx\]'`"):
        write_onnx(load_exported(digits.folder), tmp_path / "m.onnx")
