"""A model as one ONNX graph: samples in, normalisation inside, logits out, any number of samples at a time.

inputs   uint8 [N, ch, H, W] of 0 to 255 (float32 of 0 to 1 if training had floats), float32 [N, F], or
         int32 token ids [N, L] of a text
logits   float32 [N, C]; the class names are in the file's metadata, as `class-names`
"""

from __future__ import annotations

import json
import warnings
from copy import deepcopy
from importlib import import_module
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from fedhpro_flwr.data.augment import to_float
from fedhpro_flwr.data.data_set import PADDING
from fedhpro_flwr.exported.description import KEY, ModelDescription
from fedhpro_flwr.exported.model import ExportedModel
from fedhpro_flwr.models import Model
from fedhpro_flwr.printable import one_line
from fedhpro_flwr.settings.flat_keys import ConfigError
from fedhpro_flwr.whole_file import whole_file

INPUTS, LOGITS, CLASS_NAMES = "inputs", "logits", "class-names"
PACKAGES = ("onnx", "onnxruntime", "onnxscript")  # torch's exporter needs the last one
TOLERANCE = 1e-4  # of a logit, relative to the largest; the same sums of floats in another order differ by some 1e-6
CHECKED = (1, 5)  # samples of the two batches that the graph is checked with


class WithNormalisation(nn.Module):
    """A model that takes samples as they are stored, and normalises them before its encoder."""

    def __init__(self, model: Model, described: ModelDescription) -> None:
        super().__init__()
        self.model = model
        self.described = described

    def forward(self, inputs: Tensor) -> Tensor:
        """Logits [N, C]."""
        if self.described.input_kind == "text":
            return cast(Tensor, self.model(inputs))
        return cast(Tensor, self.model(to_float(inputs, self.described.mean, self.described.std)))


class BagOfWords(nn.Module):
    """Computes the same as an `nn.EmbeddingBag` of mode "mean" or "sum", with operators that ONNX has."""

    def __init__(self, bag: nn.EmbeddingBag) -> None:
        super().__init__()
        self.weight, self.mode, self.left_out = bag.weight, bag.mode, bag.padding_idx

    def forward(self, tokens: Tensor) -> Tensor:
        """[B, L] -> [B, E]: the mean or the sum of the tokens' embeddings, but for those that the bag leaves out."""
        left_out = -1 if self.left_out is None else self.left_out  # no token is -1
        real = (tokens != left_out).unsqueeze(2).to(self.weight.dtype)  # [B, L, 1]
        total = (nn.functional.embedding(tokens, self.weight) * real).sum(1)
        return total if self.mode == "sum" else total / real.sum(1).clamp(min=1)  # of no token: zero


def write_onnx(model: ExportedModel, path: Path) -> float:
    """Write the graph, whole or not at all, once onnxruntime has computed the same logits with it.

    Args:
        model: on the CPU.
        path: of the .onnx file.

    Returns:
        The largest difference that was found in a logit.

    Raises:
        ConfigError: a package is missing, the architecture cannot be written as a graph, or its logits differ.
    """
    try:
        onnx, runtime, _ = (import_module(package) for package in PACKAGES)
    except ImportError as error:
        raise ConfigError(f"ONNX needs the package {error.name}: `pip install 'fedhpro-flwr[onnx]'`") from error
    described = model.description
    graph = WithNormalisation(_without_bags(model.model), described).eval()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's exporter warns about itself
            program = torch.onnx.export(
                graph, (_samples(described, 3),), input_names=[INPUTS], output_names=[LOGITS], dynamo=True,
                dynamic_shapes=({0: torch.export.Dim("N")},), verbose=False,
            )  # fmt: skip
    except Exception as error:  # the exporter may raise anything for an unknown architecture
        reason = one_line(error)[:200]
        raise ConfigError(f"a {described.architecture} cannot be written as an ONNX graph ({reason})") from error
    assert program is not None
    content: Any = program.model_proto
    for key, value in ((KEY, described.model_dump_json()), (CLASS_NAMES, json.dumps(described.class_names))):
        onnx.helper.set_model_props(content, {**{p.key: p.value for p in content.metadata_props}, key: value})
    with whole_file(path) as scratch:
        scratch.write_bytes(content.SerializeToString())
        try:
            session = runtime.InferenceSession(str(scratch), providers=["CPUExecutionProvider"])
        except Exception as error:  # exceptions of onnxruntime's own, with nothing in common
            reason = one_line(error)[:200]
            raise ConfigError(f"onnxruntime takes no graph of a {described.architecture} ({reason})") from error
        return _checked(session, model, path)


def _without_bags(model: Model) -> Model:
    model = deepcopy(model)
    for parent in list(model.modules()):
        for name, bag in parent.named_children():
            if isinstance(bag, nn.EmbeddingBag) and bag.mode in ("mean", "sum") and bag.max_norm is None:
                setattr(parent, name, BagOfWords(bag))
    return model


def _samples(described: ModelDescription, count: int) -> Tensor:
    """Random samples, with which the graph is traced and checked."""
    draw, shape = torch.Generator().manual_seed(count), (count, *described.input_shape)
    if described.input_kind == "text":
        tokens = torch.randint(1, described.vocabulary, shape, dtype=torch.int32, generator=draw)
        lengths = torch.randint(1, shape[1] + 1, (count, 1), generator=draw)  # [N, 1]
        return tokens.where(torch.arange(shape[1]) < lengths, PADDING)
    if described.input_kind == "uint8-images":
        return torch.randint(256, shape, dtype=torch.uint8, generator=draw)
    return torch.rand(shape, generator=draw)


def _checked(session: Any, model: ExportedModel, path: Path) -> float:
    largest = 0.0
    for count in CHECKED:
        samples = _samples(model.description, count)
        expected = model.of_inputs(samples).logits
        given = torch.from_numpy(session.run([LOGITS], {INPUTS: samples.numpy()})[0])
        difference = float((given - expected).abs().max())
        if not difference <= TOLERANCE * max(1.0, float(expected.abs().max())):
            raise ConfigError(f"{path} was not written: the graph's logits differ from the model's by {difference:.1e}")
        largest = max(largest, difference)
    return largest
