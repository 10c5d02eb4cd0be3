"""Which weights are recognised, what their features are, and what is refused."""

from __future__ import annotations

import json
import pickle
import sys
import types
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from fedhpro_flwr.data.frozen_encoder import CLASSIFIERS, frozen_encoder, weights_path

IMAGES = torch.randint(256, (2, 3, 224, 224), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def refused(path: Path) -> str:
    with pytest.raises(ValueError) as caught:
        frozen_encoder(path)
    message = str(caught.value)
    assert str(path) in message and "\n" not in message
    return message


def test_features_are_those_of_torchvisions_model_without_its_classifier(resnet18_file: Path) -> None:
    from torchvision import models
    from torchvision.transforms import functional as transforms

    net = models.resnet18()
    net.load_state_dict(torch.load(resnet18_file, weights_only=True))
    net.fc = nn.Identity()
    x = transforms.normalize(IMAGES / 255, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    encoder = frozen_encoder(resnet18_file)
    z = encoder.features(IMAGES)
    assert (encoder.name, encoder.shorter_side, encoder.image_size) == ("resnet18", 256, 224)
    assert z.shape == (2, 512) and z.dtype == torch.float32 and not z.requires_grad
    torch.testing.assert_close(z, net.eval()(x), rtol=1e-4, atol=1e-5)


def test_other_forms_of_the_same_file_give_the_same_features(resnet18_file: Path, tmp_path: Path) -> None:
    state = torch.load(resnet18_file, weights_only=True)
    bare = {key: tensor for key, tensor in state.items() if not key.startswith("fc.")}
    old = {key: tensor for key, tensor in state.items() if not key.endswith("num_batches_tracked")}
    few_classes = bare | {"fc.weight": torch.zeros(7, 512), "fc.bias": torch.zeros(7)}
    training = {"epoch": 3, "state_dict": {f"module.{key}": tensor for key, tensor in old.items()}}
    save_file(bare, tmp_path / "bare.safetensors")
    for name, content in (("few.pth", few_classes), ("training.pth.tar", training)):
        torch.save(content, tmp_path / name)
    expected = frozen_encoder(resnet18_file).features(IMAGES[:1])
    for file in tmp_path.iterdir():
        assert torch.equal(frozen_encoder(file).features(IMAGES[:1]), expected), file.name


@pytest.mark.parametrize(("name", "width"), [("resnet34", 512), ("resnet50", 2048), ("mobilenet_v2", 1280)])
def test_architectures_are_told_apart(name: str, width: int, tmp_path: Path) -> None:
    from torchvision import models

    with torch.device("meta"):
        net = getattr(models, name)()
    torch.save({key: torch.ones(t.shape, dtype=t.dtype) for key, t in net.state_dict().items()}, tmp_path / "w.pth")
    encoder = frozen_encoder(tmp_path / "w.pth")
    assert encoder.name == name and name in CLASSIFIERS
    assert encoder.features(torch.zeros(1, 3, 32, 32, dtype=torch.uint8)).shape == (1, width)


def test_loading_draws_no_random_numbers(resnet18_file: Path) -> None:
    before = torch.random.get_rng_state()
    frozen_encoder(resnet18_file)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_weights_of_another_architecture(tmp_path: Path) -> None:
    file = tmp_path / "net.pth"
    torch.save({"stem.weight": torch.zeros(3, 4)}, file)
    message = refused(file)
    assert (
        "another architecture (its first tensor: 'stem.weight' [3, 4]); expected are torchvision's resnet18" in message
    )
    torch.save({}, file)
    assert "its first tensor: none" in refused(file)
    torch.save(torch.zeros(3), file)
    assert "holds no tensors with names" in refused(file)


def test_one_tensor_of_another_shape_is_another_architecture(resnet18_file: Path, tmp_path: Path) -> None:
    state = torch.load(resnet18_file, weights_only=True)
    torch.save(state | {"conv1.weight": torch.zeros(64, 1, 7, 7)}, tmp_path / "grey.pth")
    assert "'conv1.weight' [64, 1, 7, 7]" in refused(tmp_path / "grey.pth")
    del state["layer1.0.conv1.weight"]
    torch.save(state, tmp_path / "short.pth")
    assert "another architecture" in refused(tmp_path / "short.pth")


class Harmful:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return exec, ("raise AssertionError('code out of a file was run')",)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_damaged_files_and_pickled_code(resnet18_file: Path, tmp_path: Path) -> None:
    file = tmp_path / "w.pth"
    for content in (b"", b"no weights", pickle.dumps(Harmful()), resnet18_file.read_bytes()[:100_000]):
        file.write_bytes(content)
        assert "is damaged or no file of tensors" in refused(file)
    (tmp_path / "w.safetensors").write_bytes(b"\x10" + bytes(20))
    assert "is damaged or no file of tensors" in refused(tmp_path / "w.safetensors")


def test_folders_that_hold_no_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "is a folder without config.json" in refused(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    monkeypatch.setitem(sys.modules, "transformers", None)
    assert "needs the package transformers: `pip install transformers`" in refused(tmp_path)


# IndexError, struct.error, KeyError and EOFError of torch's reader, whose messages can be empty.
@pytest.mark.parametrize("content", [b"\x80\x02.", b"\x80\x02X\x01", b"\x80\x02h\x01.", b"\x80\x02}(X\x01\0\0\0aK\x01"])
def test_damage_of_every_kind_is_one_sentence(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "w.pth").write_bytes(content)
    message = refused(tmp_path / "w.pth")
    assert "is damaged or no file of tensors (" in message and "()" not in message


def test_no_code_that_a_folder_brings_along_is_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, object]] = []

    class AutoModel:
        @staticmethod
        def from_pretrained(folder: str, **options: object) -> None:
            asked.append(options)
            raise OSError("enough")

    fake = types.ModuleType("transformers")
    fake.AutoModel = AutoModel  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "transformers", fake)
    (tmp_path / "config.json").write_text("{}")
    assert "holds no model that transformers can read (enough)" in refused(tmp_path)
    assert asked[0]["trust_remote_code"] is False and asked[0]["local_files_only"] is True


def test_weights_path() -> None:
    with pytest.raises(ValueError, match=r"data\.name = 'sun397' needs data\.weights, the file or folder"):
        weights_path("sun397", "")
    with pytest.raises(FileNotFoundError, match=r"data\.weights = '/nowhere/w\.pth' does not exist; put the weights"):
        weights_path("sun397", "/nowhere/w.pth")


TINY = {
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "image_size": 32,
    "patch_size": 8,
}


def test_transformers_vision_models(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers", reason="the optional package transformers is not installed")
    torch.manual_seed(0)
    vit = transformers.ViTForImageClassification(transformers.ViTConfig(**TINY)).eval()
    clip = transformers.CLIPModel(transformers.CLIPConfig(vision_config=TINY)).eval()
    for name, net in (("vit", vit), ("clip", clip)):
        net.save_pretrained(tmp_path / name)
    normalisation = {"image_mean": [0.5, 0.5, 0.5], "image_std": [0.25, 0.25, 0.25]}
    (tmp_path / "vit" / "preprocessor_config.json").write_text(json.dumps(normalisation))
    images = IMAGES[:, :, :32, :32]

    before = torch.random.get_rng_state()
    encoder = frozen_encoder(tmp_path / "vit")
    assert torch.equal(torch.random.get_rng_state(), before)
    assert (encoder.name, encoder.image_size, encoder.mean) == ("ViTModel", 32, (0.5, 0.5, 0.5))
    with torch.no_grad():
        x = (images / 255 - 0.5) / 0.25
        torch.testing.assert_close(encoder.features(images), vit.vit(pixel_values=x).last_hidden_state[:, 0])
        encoder = frozen_encoder(tmp_path / "clip")
        x = (images / 255 - torch.tensor(encoder.mean).view(3, 1, 1)) / torch.tensor(encoder.std).view(3, 1, 1)
        torch.testing.assert_close(encoder.features(images), clip.vision_model(pixel_values=x).pooler_output)


def test_transformers_folders_that_are_refused(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers", reason="the optional package transformers is not installed")
    transformers.BertModel(
        transformers.BertConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2)
    ).save_pretrained(tmp_path)
    assert "holds a BertModel, which takes no square pictures" in refused(tmp_path)
    transformers.ViTConfig(**TINY).save_pretrained(tmp_path)
    assert "weights of another architecture than its config.json" in refused(tmp_path)
    transformers.ViTModel(transformers.ViTConfig(**TINY)).save_pretrained(tmp_path)
    transformers.ViTConfig(**TINY | {"intermediate_size": 64}).save_pretrained(tmp_path)
    assert "than its config.json, tensors have other sizes" in refused(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"x")
    assert "holds no model that transformers can read" in refused(tmp_path)
