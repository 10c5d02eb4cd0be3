"""The model's file predicts what the run's own test measured, to the last sample and the last bit."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from fedhpro_flwr import load_exported
from fedhpro_flwr.client_data import ClientData
from fedhpro_flwr.config import ConfigError
from fedhpro_flwr.data.ag_news import AG_NEWS_CLASSES, clean
from fedhpro_flwr.data.csv_rows import csv_rows
from fedhpro_flwr.engine import federation
from fedhpro_flwr.exported.description import model_bytes, read_model
from fedhpro_flwr.exported.join import joined
from fedhpro_flwr.initial_models import initial_model

DATA = Path(os.environ.get("FEDHPRO_DATA_DIR", "/nowhere"))


def right(run, path=None):
    """Share of the run's test data whose class the exported model finds, from raw samples."""
    model = load_exported(path or run.folder)
    found = model.predict(run.test.inputs.numpy()).labels
    return float((found == run.test.labels).double().mean()), model


def test_digits(digits):
    accuracy, model = right(digits)
    assert accuracy == digits.tested["accuracy"] == model.description.accuracy
    assert model.description.head == "averaged"
    assert model.description.settings["rounds"] == 2 and "run-folder" not in model.description.settings


@pytest.mark.parametrize("settings", [{}, {"model.name": "mlp", "model.width": 64}], ids=["cnn", "mlp"])
def test_logits_are_those_of_the_runs_own_test_bit_for_bit(settings, run_of, tmp_path):
    """Of whole batches and of a lone sample, whose products notice how the weights lie in memory."""
    run = run_of(tmp_path / "run", **settings)
    divided = federation(run.config).data
    model = initial_model(run.config, divided)
    model.load_state_dict(load_file(run.folder / "model.safetensors"))
    model.eval()
    prepare = ClientData(None, run.test, divided.mean, divided.std).encoder_inputs
    size = run.config.evaluation.batch_size
    exported = load_exported(run.folder)
    for inputs in (run.test.inputs, run.test.inputs[: size + 1]):
        with torch.no_grad():
            expected = torch.cat([model(prepare(part)) for part in torch.split(inputs, size)])
        assert torch.equal(exported.predict(inputs).logits, expected)


def test_vectors_and_images_of_floats(vectors, run_of, tmp_path):
    assert right(vectors)[0] == vectors.tested["accuracy"] > 0.25
    draw = np.random.default_rng(1)
    np.savez(tmp_path / "f.npz", images=draw.random((60, 6, 6), dtype=np.float32), labels=np.arange(60) % 3)
    own = {"data.name": "npz", "data.path": str(tmp_path / "f.npz"), "data.train-limit": 0}
    run = run_of(tmp_path / "run", **own)
    accuracy, model = right(run)
    assert accuracy == run.tested["accuracy"] and model.description.input_kind == "float-images"


def test_texts_as_they_are_written(texts):
    rows = list(csv_rows(texts.csv))[1:]
    predictions = load_exported(texts.folder).predict([row.fields[1] for row in rows])
    hits = [name == row.fields[0] for name, row in zip(predictions.names, rows, strict=True)]
    assert sum(hits) / len(hits) == texts.tested["accuracy"] > 0.5


SEPARATE = [
    {"method.name": "creff"},
    {"calibration.head": "separate"},
    {"calibration.head": "separate", "method.name": "fedhpro", "preset": "reference"},
]


@pytest.mark.parametrize("settings", SEPARATE, ids=["creff", "separate", "reference"])
def test_the_head_that_was_tested_is_the_one_in_the_file_and_the_averaged_one_is_not_lost(settings, run_of, tmp_path):
    run = run_of(tmp_path / "run", **settings)
    accuracy, model = right(run)
    assert accuracy == run.tested["accuracy"] == model.description.accuracy
    assert model.description.head == "calibrated"
    name = "method" if settings.get("method.name") == "creff" else "hyper-prototypes"
    state = load_file(run.folder / f"{name}.safetensors")
    tensors = load_file(run.folder / "model.safetensors")
    assert torch.equal(tensors["head.weight"], state["signal-head-weight"])
    assert not torch.equal(tensors["head.weight"], state["averaged-head-weight"])
    assert state["averaged-head-bias"].shape == tensors["head.bias"].shape


def test_each_groups_model_is_its_own_file(run_of, tmp_path):
    groups = {"model.groups": "cnn=2, mlp=1", "model.share": "group"}
    run = run_of(tmp_path / "run", **groups)
    for name in ("cnn", "mlp"):
        accuracy, model = right(run, run.folder / f"model-{name}.safetensors")
        assert accuracy == run.tested["by_architecture"][name] == model.description.accuracy
        assert model.description.architecture == name
    with pytest.raises(ConfigError) as refused:
        load_exported(run.folder)
    assert str(refused.value) == (
        f"{run.folder} holds a model of each architecture, name one: model-cnn.safetensors, model-mlp.safetensors"
    )


def test_a_head_alone_is_joined_to_a_clients_encoder(run_of, tmp_path):
    groups = {"model.groups": "cnn=2, mlp=1", "model.share": "head"}
    run = run_of(tmp_path / "run", **groups)
    with pytest.raises(ConfigError, match="every encoder stays with its client; join it to one"):
        load_exported(run.folder)
    described, head = read_model(run.folder / "model.safetensors")
    summary = json.loads((run.folder / "summary.json").read_text())
    for client, architecture in enumerate(run.config.model.architectures(3)):
        (state,) = run.folder.glob(f"clients/*/client-{client}/visit-2-*.safetensors")
        whole, tensors = joined(run.folder, described, head, state)
        assert whole.architecture == architecture
        file = tmp_path / f"client-{client}.safetensors"
        file.write_bytes(model_bytes(tensors, whole))
        test = federation(run.config).client(client).test
        found = load_exported(file).predict(test.inputs).labels
        assert int((found == test.labels).sum()) == summary["clients"][client]["test-correct"]


def test_nothing_shared_leaves_nothing_to_export(run_of, tmp_path):
    run = run_of(tmp_path / "run", **{"method.name": "local"})
    with pytest.raises(ConfigError, match=r"holds no model\.safetensors: .*method\.name = 'local'"):
        load_exported(run.folder)


@pytest.mark.skipif(not (DATA / "MNIST").is_dir(), reason="FEDHPRO_DATA_DIR has no MNIST")
def test_mnist(run_of, tmp_path):
    own = {"data.name": "mnist", "data.root": str(DATA), "data.train-limit": 200, "rounds": 1}
    run = run_of(tmp_path / "run", **own)
    accuracy, _ = right(run)
    assert accuracy == run.tested["accuracy"] and len(run.test) == 10_000


@pytest.mark.skipif(not (DATA / "AG_NEWS").is_dir(), reason="FEDHPRO_DATA_DIR has no AG_NEWS")
def test_news_from_their_own_file(run_of, tmp_path):
    own = {"data.name": "ag-news-part", "data.root": str(DATA), "data.train-limit": 300, "model.name": "fasttext"}
    run = run_of(tmp_path / "run", **own, **{"rounds": 1})
    rows = [row.fields for row in csv_rows(DATA / "AG_NEWS" / "test.csv")]
    model = load_exported(run.folder)
    names = model.predict([clean(f"{title} {text}") for _, title, text in rows]).names
    hits = [name == AG_NEWS_CLASSES[int(number) - 1] for name, (number, _, _) in zip(names, rows, strict=True)]
    assert sum(hits) / len(hits) == run.tested["accuracy"]
