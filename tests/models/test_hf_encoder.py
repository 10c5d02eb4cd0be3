"""Pre-trained encoders from a folder: tiny random ones are saved here and loaded back."""

from __future__ import annotations

import json
import shutil
import sys
import types
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from fedhpro_flwr.models import build

SIZES = {
    "vocab_size": 50,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 20,
}
TEXTS = torch.tensor([[5, 6, 7, 8, 9, 4], [5, 9, 3, 0, 0, 0], [7, 0, 0, 0, 0, 0]], dtype=torch.int32)


def saved(folder: Path, kind: str, **options: object) -> Path:
    """A folder with a random model of transformers' class `kind`."""
    transformers = pytest.importorskip("transformers", reason="the package transformers is not installed")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = getattr(transformers, kind)
        model(model.config_class(**(SIZES | options))).save_pretrained(folder)
    return folder


def net_of(folder: Path, *, length: int = 6, vocabulary: int = 50, seed: int = 0):
    return build(
        "hf-encoder", input_shape=(length,), num_classes=3, width=10, vocabulary=vocabulary, path=str(folder), seed=seed
    )


@pytest.mark.parametrize("kind", ["BertModel", "RobertaModel", "ElectraModel"])
def test_features_and_a_training_step(kind, tmp_path):
    net = net_of(saved(tmp_path / "m", kind))
    z = net.train().encoder(TEXTS)
    assert z.shape == (3, 10) and bool((z >= 0).all())
    assert torch.equal(net.eval().encoder(TEXTS), z)  # no dropout
    F.cross_entropy(net.train()(TEXTS), torch.tensor([0, 1, 2])).backward()
    assert all(p.grad is not None and bool(torch.isfinite(p.grad).all()) for p in net.parameters())
    state = net.state_dict()
    assert len({tensor.data_ptr() for tensor in state.values()}) == len(state)
    assert not any("pooler" in key for key in state)  # it is not used, so it does not travel


@pytest.mark.parametrize("kind", ["BertModel", "RobertaModel"])
def test_more_padding_changes_nothing(kind, tmp_path):
    net = net_of(saved(tmp_path / "m", kind)).double()
    z = net.encoder(TEXTS[1:, :3])
    z.square().sum().backward()
    torch.testing.assert_close(net.encoder(TEXTS[1:]), z, rtol=0, atol=1e-12)
    # Roberta pads with 1: its row belongs to the ids 0 here.
    padding = 1 if kind == "RobertaModel" else 0
    table = net.encoder[0].transformer.get_input_embeddings().weight
    assert not table.grad[padding].any() and bool(table.grad[9].any())


@pytest.mark.parametrize(("kind", "padding"), [("BertModel", 0), ("RobertaModel", 1)])
def test_it_is_the_mean_of_the_saved_encoder(kind, padding, tmp_path):
    transformers = pytest.importorskip("transformers", reason="the package transformers is not installed")
    folder = saved(tmp_path / "m", kind)
    net = net_of(folder).eval()
    plain = transformers.AutoModel.from_pretrained(folder, local_files_only=True).eval()
    own_ids = torch.tensor([[5, 9, 1 if padding == 0 else 0, padding, padding]])
    ours = torch.tensor([[5, 9, 1, 0, 0]], dtype=torch.int32)  # 0 and the padding id have changed places
    with torch.no_grad():
        hidden = plain(input_ids=own_ids, attention_mask=torch.tensor([[1, 1, 1, 0, 0]])).last_hidden_state
        torch.testing.assert_close(net.encoder[0](ours), hidden[:, :3].mean(dim=1), rtol=0, atol=1e-6)


def test_the_seed_draws_the_projection_alone_and_the_global_generator_is_left(tmp_path):
    folder = saved(tmp_path / "m", "BertModel")
    before = torch.random.get_rng_state()
    first, again, other = (net_of(folder, seed=seed).state_dict() for seed in (3, 3, 4))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(torch.equal(first[key], again[key]) for key in first)
    same = [torch.equal(first[key], other[key]) for key in first if key.startswith("encoder.0.")]
    assert same and all(same)
    assert not torch.equal(first["encoder.1.weight"], other["encoder.1.weight"])


def test_weights_of_a_language_model_without_pooler_are_complete(tmp_path):
    z = net_of(saved(tmp_path / "m", "BertForMaskedLM")).encoder(TEXTS)
    assert bool(torch.isfinite(z).all())


def test_half_precision_weights_are_computed_in_float32(tmp_path):
    transformers = pytest.importorskip("transformers", reason="the package transformers is not installed")
    folder = saved(tmp_path / "m", "BertModel")
    transformers.AutoModel.from_pretrained(folder).to(torch.bfloat16).save_pretrained(folder)
    assert {tensor.dtype for tensor in net_of(folder).parameters()} == {torch.float32}


def test_what_does_not_fit(tmp_path):
    folder = saved(tmp_path / "m", "BertModel")
    roberta = saved(tmp_path / "r", "RobertaModel")
    for message, make in (
        (r"knows 50 token ids but the data has 51; set data\.tokenizer", lambda: net_of(folder, vocabulary=51)),
        (r"cannot encode a text of data\.text-length = 21 tokens", lambda: net_of(folder, length=21)),
        # Roberta counts positions from its padding id on, so two of its 20 are never used.
        (r"cannot encode a text of data\.text-length = 19 tokens", lambda: net_of(roberta, length=19)),
    ):
        with pytest.raises(ValueError, match=message) as caught:
            make()
        assert "\n" not in str(caught.value)
    assert net_of(folder, length=20).width == net_of(roberta, length=18).width == 10


def test_weights_of_another_architecture_are_refused(tmp_path):
    folder = saved(tmp_path / "m", "BertModel")
    other = saved(tmp_path / "o", "DistilBertModel", dim=16, n_layers=2, n_heads=2, hidden_dim=32)
    shutil.copy(other / "model.safetensors", folder)
    with pytest.raises(
        ValueError, match=r"the weights are not those of config\.json's 'bert', \d+ tensors are missing"
    ):
        net_of(folder)


def test_damaged_folders_are_refused(tmp_path):
    folder = saved(tmp_path / "m", "BertModel")
    config = json.loads((folder / "config.json").read_text())
    for change, message in (
        ({"hidden_size": 24}, "holds no encoder that can be read"),
        ({"model_type": "nothing"}, "holds no encoder that can be read"),
        ({"pad_token_id": None}, r"config\.json names no pad_token_id"),
    ):
        (folder / "config.json").write_text(json.dumps(config | change))
        with pytest.raises(ValueError, match=message) as caught:
            net_of(folder)
        assert "\n" not in str(caught.value)
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "model.safetensors").write_bytes(b"damaged")
    with pytest.raises(ValueError, match="holds no encoder that can be read"):
        net_of(folder)


def test_a_model_that_also_decodes_is_refused(tmp_path):
    folder = saved(tmp_path / "m", "T5Model", d_model=16, d_kv=8, d_ff=32, num_layers=1, num_heads=2)
    with pytest.raises(ValueError, match="or give the folder of a text encoder"):
        net_of(folder)


def test_refusals_that_need_no_transformers(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match=r"model 'hf-encoder' needs text, the data has shape \[6\]"):
        net_of(tmp_path, vocabulary=0)
    with pytest.raises(ValueError, match=r"model 'hf-encoder' needs model\.path"):
        build("hf-encoder", input_shape=(6,), num_classes=3, vocabulary=9, seed=0)
    with pytest.raises(ValueError, match=r"is no folder with config\.json and model\.safetensors; put them there"):
        net_of(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "pytorch_model.bin").write_bytes(b"a pickle")
    with pytest.raises(ValueError, match=r"is no folder with config\.json and model\.safetensors"):
        net_of(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"")
    monkeypatch.setitem(sys.modules, "transformers", None)  # what makes its import fail
    with pytest.raises(ValueError, match="needs the package transformers: `pip install transformers`"):
        net_of(tmp_path)


def test_no_code_that_a_folder_brings_along_is_trusted(tmp_path, monkeypatch):
    class Asked(Exception):
        pass

    class Config:
        def to_dict(self):
            return {}

    asked = []

    class AutoConfig:
        @staticmethod
        def from_pretrained(folder, **options):
            asked.append(options)
            return Config()

    class AutoModel:
        @staticmethod
        def from_pretrained(folder, **options):
            asked.append(options)
            raise Asked

    fake = types.ModuleType("transformers")
    fake.AutoConfig, fake.AutoModel = AutoConfig, AutoModel
    monkeypatch.setitem(sys.modules, "transformers", fake)
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(ValueError, match="holds no encoder that can be read"):
        net_of(tmp_path)
    assert [options["trust_remote_code"] for options in asked] == [False, False]
    assert all(options["local_files_only"] for options in asked)
