"""A trained model from its file, for use in other code: `load_exported("model.safetensors").predict(["a.png"])`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from fedhpro_flwr.client_data import ClientData
from fedhpro_flwr.data.frozen_encoder import FrozenEncoder, frozen_encoder
from fedhpro_flwr.exported.build import built
from fedhpro_flwr.exported.description import ModelDescription, model_file, read_model
from fedhpro_flwr.exported.needed import found
from fedhpro_flwr.exported.samples import of_array, of_pictures, of_texts
from fedhpro_flwr.home_folder import expanded
from fedhpro_flwr.models import Model
from fedhpro_flwr.settings.flat_keys import ConfigError

Samples = Tensor | npt.NDArray[np.generic] | Sequence[str] | Sequence[Path] | str | Path


@dataclass(frozen=True, eq=False)
class Predictions:
    """What a model says of N samples.

    Args:
        logits: [N, C] float32, on the CPU.
        class_names: one name a class id.
    """

    logits: Tensor
    class_names: tuple[str, ...]

    @property
    def labels(self) -> Tensor:
        """The class id of each sample [N]."""
        return self.logits.argmax(1)

    @property
    def names(self) -> list[str]:
        """The class name of each sample."""
        return [self.class_names[label] for label in self.labels.tolist()]

    @property
    def probabilities(self) -> Tensor:
        """The softmax of the logits [N, C]. Federated training does not calibrate it: 0.9 need not mean 90 %."""
        return self.logits.softmax(1)

    def top(self, count: int) -> list[list[tuple[str, float]]]:
        """For each sample its `count` likeliest classes and their probabilities, the likeliest first."""
        # Sorted by the logits: probabilities of 1 and 1 - 1e-9 are the same float.
        order = self.logits.argsort(stable=True, dim=1, descending=True)[:, :count]
        chosen = self.probabilities.gather(1, order)
        return [
            [(self.class_names[c], p) for c, p in zip(classes, shares, strict=True)]
            for classes, shares in zip(order.tolist(), chosen.tolist(), strict=True)
        ]


@dataclass(frozen=True, eq=False)
class ExportedModel:
    """A model ready to predict. Made by `load_exported`.

    Args:
        model: in eval mode, on `device`.
        description: what its file says.
        device: that it computes on.
        frozen: the encoder of pictures whose features the model takes; None if it does not take features.
        tokenizer: the folder of a text's tokenizer; None for the hashing one.
    """

    model: Model
    description: ModelDescription
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    frozen: FrozenEncoder | None = None
    tokenizer: Path | None = None

    def predict(self, samples: Samples, *, batch_size: int = 0) -> Predictions:
        """The classes of samples.

        Args:
            samples: an array or tensor of them, as a .npz file may hold it (fedhpro_flwr/data/npz.py); the path of a
                picture file, or a list of them; or a text or a list of them, for a model of texts.
            batch_size: samples at a time; 0 for the run's own, which repeats its test bit for bit on the same device.

        Raises:
            ValueError: samples that the model does not take, or a picture that cannot be read; the message says which.
            ConfigError: a batch of one, and the model has a batch norm that takes its statistics from the batch.
        """
        return self.of_inputs(self.inputs(samples), batch_size=batch_size)

    def inputs(self, samples: Samples) -> Tensor:
        """Samples as the model takes them [N, ...]: pictures decoded and resized, texts as token ids.

        Raises:
            ValueError: as in `predict`.
        """
        if isinstance(samples, Tensor):
            values = samples.detach().cpu()
            return of_array((values.float() if values.is_floating_point() else values).numpy(), self.description)
        if isinstance(samples, np.ndarray):
            return of_array(samples, self.description)
        given: list[object] = [samples] if isinstance(samples, str | Path) else list(samples)
        if not given:
            raise ValueError("there is nothing to predict: an empty list of samples")
        if other := next((type(each).__name__ for each in given if not isinstance(each, str | Path)), ""):
            raise ValueError(f"samples are an array, or paths or texts in a list; got a list with a {other}")
        said = [str(each) for each in given]
        if self.description.input_kind == "text":
            return of_texts(said, self.description, self.tokenizer)
        return of_pictures([Path(file) for file in said], self.description, self.frozen)

    def of_inputs(self, inputs: Tensor, *, batch_size: int = 0) -> Predictions:
        """The classes of samples [N, ...] that `inputs` returned."""
        return Predictions(self._of_batches(self.model.head, inputs, batch_size), self.description.class_names)

    def features(self, samples: Samples, *, batch_size: int = 0) -> Tensor:
        """What the encoder makes of samples, z [N, D] float32 on the CPU: what hyper-prototypes are compared with.

        Args:
            samples, batch_size: as in `predict`.

        Raises:
            ValueError: as in `predict`.
        """
        return self._of_batches(nn.Identity(), self.inputs(samples), batch_size)

    @torch.no_grad()
    def _of_batches(self, last: nn.Module, inputs: Tensor, batch_size: int) -> Tensor:
        described = self.description
        prepare = ClientData(None, None, described.mean, described.std).encoder_inputs
        batches = torch.split(inputs, batch_size or described.batch_size)
        if any(len(batch) == 1 for batch in batches) and any(map(_looks_at_the_batch, self.model.modules())):
            raise ConfigError(
                f"{described.architecture} has a batch norm without running statistics: what it says of a sample "
                "depends on the others of its batch, and of one alone it says nothing"
            )
        # As in the run's test: the encoder, then the head.
        results = [last(self.model.encoder(prepare(batch.to(self.device)))).float().cpu() for batch in batches]
        return torch.cat(results)


def _looks_at_the_batch(module: nn.Module) -> bool:
    return isinstance(module, nn.modules.batchnorm._BatchNorm) and module.running_mean is None


def load_exported(
    path: str | Path,
    *,
    device: str = "cpu",
    encoder: str | Path | None = None,
    tokenizer: str | Path | None = None,
) -> ExportedModel:
    """Read a model's file. Nothing in it is executed: it holds tensors, and JSON that is checked.

    Args:
        path: a model.safetensors, or the folder of a finished run.
        device: "cpu", "cuda", or "auto" for a GPU if there is one.
        encoder: the file or folder of the frozen or pre-trained encoder that the run used, if it used one.
        tokenizer: the folder of the tokenizer that the run used, if it used one.

    Raises:
        ConfigError: the file cannot be used, or something that it needs is missing or is another one; one sentence.
    """
    file = model_file(expanded(path))
    described, tensors = read_model(file)
    if described.holds == "head":
        raise ConfigError(
            f"{file} holds the head alone: with model.share = 'head' every encoder stays with its client; join it to "
            "one where its state lies, by `fedhpro export MODEL --state visit-<last round>-....safetensors --out FILE`"
        )
    if device not in ("cpu", "cuda", "auto"):
        raise ConfigError(f"device {device!r}: allowed are 'cpu', 'cuda' and 'auto'")
    if device == "cuda" and not torch.cuda.is_available():
        raise ConfigError("device 'cuda': this process sees no CUDA device; use 'cpu' or 'auto'")
    where = torch.device("cuda" if device != "cpu" and torch.cuda.is_available() else "cpu")
    is_frozen = described.input_kind == "features"
    encoder_path = found(described.encoder, encoder, "--encoder", weights=is_frozen)
    tokenizer_path = found(described.tokenizer, tokenizer, "--tokenizer", weights=False)
    model = built(file, described, tensors, None if is_frozen else encoder_path).to(where)
    frozen = None
    if is_frozen and encoder_path:
        try:
            frozen = frozen_encoder(encoder_path)
        except ValueError as error:
            raise ConfigError(str(error)) from error
        frozen.module.to(where)
    return ExportedModel(model, described, where, frozen, tokenizer_path)
