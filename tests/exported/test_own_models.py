"""The exported file of models of somebody's own: what no file holds comes from their builder."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional as F

from fedhpro_flwr import load_exported
from fedhpro_flwr.data import DATA_SETS, DataSet, Split
from fedhpro_flwr.exported.model import Predictions
from fedhpro_flwr.exported.onnx_graph import write_onnx
from fedhpro_flwr.models import MODELS, Model, model
from fedhpro_flwr.settings.flat_keys import ConfigError


class Scaled(nn.Module):
    """An encoder of vectors that divides by numbers of its own, which it keeps as `how` says."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.layer = nn.Linear(6, 8)
        self.norm = nn.BatchNorm1d(8, track_running_stats=False) if how == "batch" else nn.Identity()
        scales = torch.linspace(0.5, 1.5, 6)
        if how == "buffer":
            self.register_buffer("scales", scales, persistent=False)
        elif how in ("attribute", "batch"):
            self.scales = scales
        else:  # a number of Python's, which a tensor without numbers has none of
            self.scales = torch.tensor([scale.item() for scale in scales])

    def forward(self, x):
        return torch.relu(self.norm(self.layer(x / self.scales)))


@pytest.fixture
def registered():
    """A name under which the builder is registered for one test."""
    names = []

    def register(how):
        names.append(f"scaled-{how}")
        model(names[-1])(lambda shape: Model(Scaled(how), nn.Linear(8, shape.num_classes)))
        return names[-1]

    yield register
    for name in names:
        del MODELS[name]


@pytest.mark.parametrize("how", ["buffer", "attribute", "item"])
def test_numbers_that_are_in_no_file_are_the_builders(how, registered, vectors, run_of, tmp_path):
    own = {key: vectors.config.flat()[key] for key in ("data.name", "data.path", "data.train-limit", "method.name")}
    run = run_of(tmp_path / "run", **own, **{"model.name": registered(how), "rounds": 2})
    predicted = load_exported(run.folder).predict(run.test.inputs).logits.argmax(1)
    assert (predicted == run.test.labels).double().mean() == run.tested["accuracy"]


def test_images_of_five_channels_are_predicted_out_of_arrays(monkeypatch, run_of, tmp_path):
    pixels = torch.randint(256, (50, 5, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    train, test = (Split(pixels[part], torch.arange(50)[part] % 2) for part in (slice(40), slice(40, None)))
    monkeypatch.setitem(
        DATA_SETS, "bands", lambda source: DataSet("bands", train, test, ["a", "b"], [0.5] * 5, [0.5] * 5)
    )
    run = run_of(tmp_path / "run", **{"data.name": "bands", "data.train-limit": 0})
    reader = load_exported(run.folder)
    predicted = reader.predict(test.inputs.numpy())
    assert (predicted.labels == test.labels).double().mean() == run.tested["accuracy"]
    assert torch.equal(reader.predict(test.inputs.permute(0, 2, 3, 1)).logits, predicted.logits)  # channels last
    with pytest.raises(ValueError, match="the model takes images of 8x8 pixels in 5 channels, no pictures"):
        reader.predict("a.png")


def test_the_likeliest_classes_are_ordered_by_logits_as_their_probabilities_may_be_one_float():
    predictions = Predictions(torch.tensor([[0.0, -200.0, -150.0, 0.5], [9.0, 0.0, 0.0, -1.0]]), ("a", "b", "c", "d"))
    assert (predictions.labels.tolist(), predictions.names) == ([3, 0], ["d", "a"])
    assert [[name for name, _ in top] for top in predictions.top(4)] == [["d", "a", "c", "b"], ["a", "b", "c", "d"]]
    assert [share for _, share in predictions.top(3)[0]] == pytest.approx([0.622459, 0.377541, 0.0], abs=1e-6)


def test_one_text_is_one_sample_and_what_is_none_is_a_sentence(texts, vectors):
    reader = load_exported(texts.folder)
    assert reader.predict("apple pear plum").names == reader.predict(["apple pear plum"]).names
    assert len(reader.predict("apple pear plum").names) == 1
    for samples, sentence in (([], "there is nothing to predict"), ([3.5], "got a list with a float")):
        with pytest.raises(ValueError, match=sentence):
            reader.predict(samples)


def test_one_picture_and_tensors_of_any_float(digits, vectors, tmp_path):
    from PIL import Image

    Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "a.png")
    reader = load_exported(digits.folder)
    one, many = reader.predict(tmp_path / "a.png"), reader.predict([tmp_path / "a.png"])
    assert torch.equal(one.logits, many.logits) and torch.equal(
        reader.predict(str(tmp_path / "a.png")).logits, one.logits
    )
    inputs = torch.ones(2, 6)
    expected = load_exported(vectors.folder).predict(inputs).logits
    for given in (inputs.bfloat16(), inputs.double(), inputs.clone().requires_grad_()):
        assert torch.equal(load_exported(vectors.folder).predict(given).logits, expected)


def test_one_sample_alone_is_refused_by_a_batch_norm_without_statistics(registered, run_of, vectors, tmp_path):
    own = {key: vectors.config.flat()[key] for key in ("data.name", "data.path", "data.train-limit", "method.name")}
    run = run_of(tmp_path / "run", **own, **{"model.name": registered("batch"), "rounds": 1})
    exported = load_exported(run.folder)
    assert len(exported.predict(run.test.inputs[:2]).labels) == 2
    said = r"^scaled-batch has a batch norm without running statistics: what it says of a sample depends on the others"
    for ask in (
        lambda: exported.predict(run.test.inputs[:1]),
        lambda: exported.features(run.test.inputs[:3], batch_size=2),
        lambda: write_onnx(exported, tmp_path / "m.onnx"),
    ):
        with pytest.raises(ConfigError, match=said):
            ask()
    assert not (tmp_path / "m.onnx").exists()


def test_weights_that_are_tied_are_those_that_the_run_tested(monkeypatch, run_of, vectors, tmp_path):
    def tied(shape):
        encoder = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8))
        encoder[4].weight = encoder[2].weight
        return Model(encoder, nn.Linear(8, shape.num_classes))

    monkeypatch.setitem(MODELS, "tied", tied)
    own = {key: vectors.config.flat()[key] for key in ("data.name", "data.path", "data.train-limit", "method.name")}
    noise = {"privacy.model-clip": 4.0, "privacy.model-noise": 0.2, "privacy.noise": "seeded"}  # each copy gets its own
    run = run_of(tmp_path / "run", **own, **noise, **{"model.name": "tied", "rounds": 2})
    exported = load_exported(run.folder)
    assert exported.model.encoder[4].weight is exported.model.encoder[2].weight
    file = load_file(run.folder / "model.safetensors")
    assert not torch.equal(file["encoder.2.weight"], file["encoder.4.weight"])
    predicted = exported.predict(run.test.inputs).logits
    assert (predicted.argmax(1) == run.test.labels).double().mean() == run.tested["accuracy"]
    assert F.cross_entropy(predicted.double(), run.test.labels).item() == pytest.approx(run.tested["loss"], rel=1e-5)
