"""A pretrained image encoder whose weights lie in a local file or folder, frozen: pictures to features [B, F].

    resnet18-f37072fd.pth, resnet50-*.safetensors, ...     torchvision's weights, the architecture is recognised
    a folder with config.json and model.safetensors        a vision model of transformers (ViT, CLIP, DINOv2, ...)

Nothing is fetched. The classifier that the weights may bring along is dropped.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from fedhpro_flwr.data.augment import IMAGENET_MEAN, IMAGENET_STD, to_float
from fedhpro_flwr.home_folder import expanded

CLASSIFIERS = {"resnet18": "fc", "resnet34": "fc", "resnet50": "fc", "mobilenet_v2": "classifier", "vit_b_16": "heads"}


@dataclass(frozen=True, eq=False)
class FrozenEncoder:
    """An encoder and the pictures it expects.

    Args:
        name: of the architecture.
        module: normalised images [B, 3, S, S] -> features [B, F].
        shorter_side: pixels that the shorter side of a picture is resized to.
        image_size: S, the side of the square that is then cut from the middle.
        mean, std: normalisation per channel of pictures scaled to [0, 1].
    """

    name: str
    module: nn.Module
    shorter_side: int = 256
    image_size: int = 224
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD

    def features(self, images: Tensor) -> Tensor:
        """float32 features [B, F] of uint8 images [B, 3, S, S], on the module's device."""
        device = next(self.module.parameters()).device
        with torch.no_grad():
            return cast(Tensor, self.module(to_float(images.to(device), self.mean, self.std))).float()


def weights_path(name: str, weights: str) -> Path:
    """The file or folder `weights` of the data set `name`.

    Raises:
        ValueError: none is given.
        FileNotFoundError: nothing is there.
    """
    if not weights:
        raise ValueError(
            f"data.name = {name!r} needs data.weights, the file or folder of a pretrained encoder "
            "(as torchvision's resnet18-f37072fd.pth)"
        )
    path = expanded(weights)
    if not path.exists():
        raise FileNotFoundError(f"data.weights = {weights!r} does not exist; put the weights there or correct the path")
    return path


def frozen_encoder(path: Path) -> FrozenEncoder:
    """Load an encoder in evaluation mode, on the CPU; the global generator is left as it was.

    Raises:
        ValueError: the file is damaged or of another architecture, or the folder's model cannot be used.
    """
    if path.is_dir():
        from fedhpro_flwr.data.transformers_encoder import transformers_encoder

        return transformers_encoder(path)
    from torchvision import models  # slow to import

    state = _read(path)
    for name, classifier in CLASSIFIERS.items():
        with torch.device("meta"):  # no numbers yet: building costs nothing and draws nothing
            net: nn.Module = getattr(models, name)()
        setattr(net, classifier, nn.Identity())
        own = {key: tensor for key, tensor in state.items() if not key.startswith(f"{classifier}.")}
        if _shapes(own) == _shapes(net.state_dict()):
            net.to_empty(device="cpu").load_state_dict(own, strict=False)  # batch counters may be missing, see _shapes
            return FrozenEncoder(name, net.eval().requires_grad_(False))
    first = next((f"{key!r} {list(tensor.shape)}" for key, tensor in state.items()), "none")
    raise ValueError(
        f"data.weights = {str(path)!r} holds weights of another architecture (its first tensor: {first}); "
        f"expected are torchvision's {', '.join(CLASSIFIERS)}, or the folder of a transformers model"
    )


def _read(path: Path) -> dict[str, Tensor]:
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # damaged bytes lead the readers to any kind of error
        reason = str(error).split("\n")[0] or type(error).__name__
        raise ValueError(f"data.weights = {str(path)!r} is damaged or no file of tensors ({reason})") from error
    if isinstance(content, Mapping):  # training scripts save more than weights; a wrapped model's begin with "module."
        content = content.get("state_dict", content)
    if not isinstance(content, Mapping):
        raise ValueError(f"data.weights = {str(path)!r} holds no tensors with names, a state dict is needed")
    return {str(key).removeprefix("module."): tensor for key, tensor in content.items() if isinstance(tensor, Tensor)}


def _shapes(state: Mapping[str, Tensor]) -> dict[str, torch.Size]:
    """The shapes that tell architectures apart, without the batch norms' counters, which old files lack."""
    return {key: tensor.shape for key, tensor in state.items() if not key.endswith("num_batches_tracked")}
