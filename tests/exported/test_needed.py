"""Models that need a file or folder beside their own: it must be named, and be the one of the run."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from fedhpro_flwr import ConfigError, load_exported
from fedhpro_flwr.cli import main
from fedhpro_flwr.data.csv_rows import csv_rows
from fedhpro_flwr.engine import federation
from fedhpro_flwr.exported.needed import found, needed
from fedhpro_flwr.exported.samples import of_texts


def refusal(path, **options):
    with pytest.raises(ConfigError) as refused:
        load_exported(path, **options)
    return str(refused.value)


@pytest.fixture(scope="module")
def photographs(run_of, tmp_path_factory):
    """Two classes of pictures, seen through a frozen ResNet-18 of random weights."""
    from torchvision.models import resnet18

    folder = tmp_path_factory.mktemp("photographs")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        torch.save(resnet18().state_dict(), folder / "w.pth")
    draw = np.random.default_rng(0)
    for part, count in (("train", 6), ("test", 3)):
        for name, scale in (("dark", 60), ("light", 255)):
            (folder / "pictures" / part / name).mkdir(parents=True)
            for i in range(count):
                pixels = (draw.random((20, 30, 3)) * scale).astype(np.uint8)
                Image.fromarray(pixels).save(folder / "pictures" / part / name / f"{i}.png")
    own = {"data.name": "feature-folder", "data.path": str(folder / "pictures"), "data.weights": str(folder / "w.pth")}
    run = run_of(
        folder / "run", **own, **{"data.train-limit": 0, "model.name": "projection", "partition.num-partitions": 2}
    )
    run.place = folder
    return run


def test_pictures_through_the_frozen_encoder_of_the_run(photographs):
    model = load_exported(photographs.folder, encoder=photographs.place / "w.pth")
    assert model.description.input_kind == "features"
    files = sorted((photographs.place / "pictures" / "test").rglob("*.png"))
    predictions = model.predict(files)
    hits = [name == file.parent.name for name, file in zip(predictions.names, files, strict=True)]
    assert sum(hits) / len(hits) == photographs.tested["accuracy"]
    # Features themselves are taken too. Other batches of the encoder may differ in the last bit.
    assert torch.allclose(model.predict(photographs.test.inputs).logits, predictions.logits, atol=1e-5)


def test_another_encoder_or_none_is_refused(photographs, tmp_path):
    said = refusal(photographs.folder)
    assert said == "the model needs w.pth, which its run used; say where it lies by --encoder"
    assert "does not exist; give the place of w.pth" in refusal(photographs.folder, encoder=tmp_path / "none")
    (tmp_path / "w.pth").write_bytes(b"other")
    said = refusal(photographs.folder, encoder=tmp_path / "w.pth")
    assert said.endswith("w.pth has another content than w.pth, which the model was trained with")
    assert refusal(photographs.folder, encoder=photographs.place / "w.pth", tokenizer=tmp_path) == (
        f"--tokenizer {tmp_path}: this model needs none; leave it out"
    )


def test_a_head_is_joined_to_a_clients_projection_without_the_frozen_encoder(photographs, run_of, tmp_path):
    changes = {"run-folder": str(tmp_path / "run"), "model.share": "head", "rounds": 1}
    run = run_of(tmp_path / "run", **(photographs.config.flat() | changes))
    (state,) = run.folder.glob("clients/*/client-1/visit-1-*.safetensors")
    out = tmp_path / "client-1.safetensors"
    assert main(["export", str(run.folder), "--state", str(state), "--out", str(out)]) == 0
    test = federation(run.config).client(1).test
    found = load_exported(out, encoder=photographs.place / "w.pth").predict(test.inputs).labels
    summary = json.loads((run.folder / "summary.json").read_text())
    assert int((found == test.labels).sum()) == summary["clients"][1]["test-correct"]


@pytest.fixture(scope="module")
def pretrained(run_of, tmp_path_factory):
    """Texts through a tokenizer's folder and a tiny random BERT that is trained on."""
    tokenizers = pytest.importorskip("tokenizers")
    transformers = pytest.importorskip("transformers")
    folder = tmp_path_factory.mktemp("pretrained")
    words = {word: i for i, word in enumerate(("[PAD]", "<unk>", "apple", "pear", "tin", "zinc"))}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="<unk>"))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    (folder / "bert").mkdir()
    tokenizer.save(str(folder / "bert" / "tokenizer.json"))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        shape = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
        options = transformers.BertConfig(vocab_size=6, max_position_embeddings=8, **shape)
        transformers.BertModel(options).save_pretrained(folder / "bert")
    rows = [f"fruit,{text}" for text in ("apple", "pear", "apple pear")] + [f"metal,{t}" for t in ("tin", "zinc tin")]
    (folder / "texts.csv").write_text("\n".join(["label,text", *(rows * 8)]))
    bert = str(folder / "bert")
    own = {"data.name": "text-csv", "data.path": str(folder / "texts.csv"), "data.tokenizer": bert, "model.path": bert}
    run = run_of(
        folder / "run", **own, **{"data.train-limit": 0, "data.text-length": 4, "model.name": "hf-encoder", "rounds": 1}
    )
    run.bert, run.csv = folder / "bert", folder / "texts.csv"
    return run


def test_a_pretrained_encoder_comes_from_its_folder_and_its_weights_from_the_models_file(pretrained):
    model = load_exported(pretrained.folder, encoder=pretrained.bert, tokenizer=pretrained.bert)
    found = model.of_inputs(pretrained.test.inputs).labels
    assert float((found == pretrained.test.labels).double().mean()) == pretrained.tested["accuracy"]
    texts = [row.fields[1] for row in list(csv_rows(pretrained.csv))[1:]]
    tokens = {tuple(row) for row in model.inputs(texts).tolist()}
    assert tokens == {(2, 0, 0, 0), (3, 0, 0, 0), (2, 3, 0, 0), (4, 0, 0, 0), (5, 4, 0, 0)}
    larger = model.description.model_copy(update={"vocabulary": 7})
    with pytest.raises(ValueError, match="the tokenizer has 6 token ids, the model 7"):
        of_texts(texts, larger, pretrained.bert)
    assert "say where it lies by --tokenizer" in refusal(pretrained.folder, encoder=pretrained.bert)


def test_the_weights_of_a_folder_count_where_they_are_used(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(b"1")
    before = needed(tmp_path), needed(tmp_path, weights=False)
    (tmp_path / "model.safetensors").write_bytes(b"2")
    after = needed(tmp_path), needed(tmp_path, weights=False)
    assert before[0] != after[0] and before[1] == after[1]
    (tmp_path / "config.json").write_text("{ }")
    assert needed(tmp_path, weights=False) != after[1]
    after = needed(tmp_path, weights=False)
    (tmp_path / "model.safetensors.index.json").write_text("{}")
    (tmp_path / ".cache").write_text("of a download")
    assert needed(tmp_path, weights=False) == after


def test_what_only_the_clients_had_is_taken_with_any_content(tmp_path):
    unseen = needed(tmp_path / "elsewhere")
    assert (unseen.name, unseen.sha256) == ("elsewhere", "")
    assert found(unseen, tmp_path, "--encoder", weights=True) == tmp_path


def test_a_head_is_joined_to_a_clients_pretrained_encoder(pretrained, run_of, tmp_path, capfd):
    changes = {"run-folder": str(tmp_path / "run"), "model.share": "head"}
    run = run_of(tmp_path / "run", **(pretrained.config.flat() | changes))
    (state,) = run.folder.glob("clients/*/client-1/visit-1-*.safetensors")
    out = tmp_path / "client-1.safetensors"
    join = ["export", str(run.folder), "--state", str(state), "--out", str(out)]
    assert main(join) == 2 and not out.exists()
    assert "the model needs bert, which its run used; say where it lies by --encoder" in capfd.readouterr().err
    assert main([*join, "--encoder", str(pretrained.bert)]) == 0
    test = federation(run.config).client(1).test
    found = load_exported(out, encoder=pretrained.bert, tokenizer=pretrained.bert).of_inputs(test.inputs).labels
    summary = json.loads((run.folder / "summary.json").read_text())
    assert int((found == test.labels).sum()) == summary["clients"][1]["test-correct"]
