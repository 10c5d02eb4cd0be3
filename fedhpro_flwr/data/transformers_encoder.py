"""A frozen vision encoder of the package transformers, out of a local folder; the package is optional."""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from fedhpro_flwr.data.augment import IMAGENET_MEAN, IMAGENET_STD
from fedhpro_flwr.data.frozen_encoder import FrozenEncoder
from fedhpro_flwr.printable import one_line

IMAGE_SIZE = 224  # if config.json names none, as for convolutional nets, which take any


class FeaturesAlone(nn.Module):
    """A vision model of transformers that returns features instead of a record of outputs.

    Args:
        vision: the model.
        pooled: take what it pools instead of its class token.
    """

    def __init__(self, vision: nn.Module, pooled: bool) -> None:
        super().__init__()
        self.vision = vision
        self.pooled = pooled

    def forward(self, x: Tensor) -> Tensor:
        """Images [B, 3, S, S] -> features [B, F]."""
        outputs = self.vision(pixel_values=x)
        if self.pooled:
            return cast(Tensor, outputs.pooler_output).flatten(1)  # convolutional nets: [B, F, 1, 1]
        return cast(Tensor, outputs.last_hidden_state)[:, 0]


def transformers_encoder(folder: Path) -> FrozenEncoder:
    """Load the vision model of a folder that `save_pretrained` wrote; of CLIP and the like only the vision half.

    Pictures are resized so that the shorter side fits, and cut square. Mean and std are those of
    preprocessor_config.json, or ImageNet's.

    Raises:
        ValueError: the package is not installed, the folder holds no vision model, or weights of another one.
    """
    place = f"data.weights = {str(folder)!r}"
    if not (folder / "config.json").is_file():
        raise ValueError(
            f"{place} is a folder without config.json; give the folder of a transformers model, "
            "or a file of torchvision's weights"
        )
    try:
        transformers: Any = import_module("transformers")  # slow to import
    except ImportError as error:
        raise ValueError(
            f"{place} is a folder, which needs the package transformers: `pip install transformers`, "
            "or give a file of torchvision's weights"
        ) from error
    try:
        with torch.random.fork_rng(devices=[]):
            # Safetensors only: the older format is a pickle, which runs code when it is read.
            model, report = transformers.AutoModel.from_pretrained(
                str(folder),
                local_files_only=True,
                trust_remote_code=False,
                use_safetensors=True,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # the report names them, and they are refused below
            )
    except Exception as error:  # many kinds, from several packages
        raise ValueError(f"{place} holds no model that transformers can read ({one_line(error)})") from error
    # transformers fills what is missing with random numbers; only a pooler may be missing, which is not used then.
    missing = sorted(key for key in report["missing_keys"] if "pooler" not in key)
    if missing or report["mismatched_keys"]:
        wrong = f"{missing[0]} is missing" if missing else "tensors have other sizes"
        raise ValueError(f"{place} holds weights of another architecture than its config.json, {wrong}")
    vision: Any = getattr(model, "vision_model", model)
    size = getattr(vision.config, "image_size", IMAGE_SIZE)
    if vision.main_input_name != "pixel_values" or not isinstance(size, int):
        raise ValueError(f"{place} holds a {type(model).__name__}, which takes no square pictures")
    mean, std = _normalisation(folder / "preprocessor_config.json")
    # Pooling without weights is how the model was trained; with weights it is not used, as many checkpoints lack them.
    pooler = getattr(vision, "pooler", None)
    pooled = pooler is None or not list(pooler.parameters())
    module = FeaturesAlone(vision.float(), pooled).eval().requires_grad_(False)
    return FrozenEncoder(type(model).__name__, module, size, size, mean, std)


def _normalisation(file: Path) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """The mean and std that pictures are normalised by."""
    if not file.is_file():
        return IMAGENET_MEAN, IMAGENET_STD
    try:
        settings = json.loads(file.read_text(encoding="utf-8"))
        mean, std = (tuple(float(number) for number in settings[key]) for key in ("image_mean", "image_std"))
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(f"{file} lacks image_mean and image_std, three numbers each ({error!r})") from error
    if len(mean) != 3 or len(std) != 3 or min(std) <= 0:
        raise ValueError(f"{file}: image_mean and image_std must be three numbers each, std above 0")
    return mean, std
