"""Features of test samples in the plane, with the prototypes of the run among them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional as F

from fedhpro_flwr.config import ConfigError, RunConfig
from fedhpro_flwr.data import Split
from fedhpro_flwr.device import device_of
from fedhpro_flwr.features import encode
from fedhpro_flwr.initial_models import untrained_model
from fedhpro_flwr.printable import one_line
from fedhpro_flwr.records import HYPER_PROTOTYPES
from fedhpro_flwr.report.drift import Trace
from fedhpro_flwr.report.runs import Run
from fedhpro_flwr.runs.run_folder import HYPER_PROTOTYPES_FILE, MODEL_FILE
from fedhpro_flwr.runs.summary import judging_data
from fedhpro_flwr.seeding import Draws
from fedhpro_flwr.server.known_data import known_data

Points = npt.NDArray[np.float64]  # [N, 2]
MOST_SAMPLES = 1000  # of the test data, in a picture
MOST_VECTORS = 100  # prototypes in a picture; if there are more, each class has one vector, their mean


@dataclass(frozen=True, eq=False)
class Features:
    """Directions (vectors of length one) in a run's feature space: HPCL compares only the directions of features."""

    samples: Tensor  # [N, D]
    labels: Tensor  # [N] int64
    prototypes: Tensor  # [P, D]; P = 0 for a method without prototypes
    prototype_labels: Tensor  # [P] int64
    class_names: Sequence[str]  # [C]


@dataclass(frozen=True, eq=False)
class Plane:
    """Features in two dimensions."""

    samples: Points  # [N, 2]
    prototypes: Points  # [P, 2]


def read_features(run: Run) -> Features:
    """Encode at most 1000 test samples, drawn from the run's seed, with the global model that the run left.

    Raises:
        ConfigError: there is no global model, or the data, the model or its prototypes cannot be read; one sentence.
    """
    path = run.folder / MODEL_FILE
    architectures = list(run.config.model.group_sizes)
    if len(architectures) > 1 or run.config.model.share == "head" or not path.exists():
        raise ConfigError(
            "it has not finished, so there is no model yet" if not run.finished else "it has no single global model"
        )
    config = with_data_here(run.config)
    known = known_data(config)
    if known.test is None or known.test.test is None:
        raise ConfigError("its data lies at the clients, and the server has none to show")
    model = untrained_model(config, known.shape, next(iter(architectures), ""))
    try:
        model.load_state_dict(load_file(path))
    except (RuntimeError, SafetensorError) as error:
        raise ConfigError(f"{path} does not fit the run's settings: {one_line(error)}") from None
    device = device_of(config)
    test = _sample(known.test.test, config.seed)
    server = replace(known.test, test=test).to(device)
    assert server.test is not None
    z = encode(model.to(device), server.test.inputs, server.encoder_inputs).cpu()  # [N, D]
    samples = F.normalize(z, dim=1)
    if min(samples.shape) < 2 or torch.allclose(samples, samples[0], rtol=0, atol=1e-6):  # t-SNE crashes on one point
        raise ConfigError(
            f"the model encodes its {judging_data(config)} ({len(samples)} samples, width {z.shape[1]}) all alike, or "
            "there are fewer than two samples or coordinates"
        )
    prototypes, prototype_labels = _prototypes(run.folder, z.shape[1])
    return Features(samples, test.labels, F.normalize(prototypes, dim=1), prototype_labels, known.shape.class_names)


def with_data_here(config: RunConfig) -> RunConfig:
    """The settings with this machine's data folder, if the run's own is that of another machine."""
    here = os.environ.get("FEDHPRO_DATA_DIR", "")
    if here and config.data.root and not Path(config.data.root).is_dir():
        return RunConfig.parse(config.flat() | {"data.root": here})
    return config


def principal_axes(features: Features) -> Plane:
    """Projection on the two directions of largest variance of the samples; the prototypes are projected likewise.

    The sign of an axis is chosen so that its largest entry is positive: the same features give the same picture.
    """
    z = features.samples.double().numpy()
    centre = z.mean(0)
    axes = np.linalg.svd(z - centre, full_matrices=False)[2][:2]  # [2, D]
    axes = axes * np.sign(axes[np.arange(len(axes)), np.abs(axes).argmax(1)])[:, None]
    return Plane((z - centre) @ axes.T, (features.prototypes.double().numpy() - centre) @ axes.T)


def neighbour_embedding(features: Features, seed: int) -> Plane:
    """t-SNE of samples and prototypes together (van der Maaten and Hinton, JMLR 2008), perplexity 30 or a fifth of N.

    Points near each other have similar features; distances between groups of points, and their sizes, say nothing.
    """
    from sklearn.manifold import TSNE

    both = torch.cat([features.samples, features.prototypes]).numpy()
    perplexity = min(30.0, max(1.0, (len(both) - 1) / 5))
    embedding = TSNE(init="pca", perplexity=perplexity, random_state=seed % 2**32, n_jobs=1).fit_transform(both)
    points = np.asarray(embedding, dtype=np.float64)
    return Plane(points[: len(features.samples)], points[len(features.samples) :])


def _sample(test: Split, seed: int) -> Split:
    """`MOST_SAMPLES` of the test data, or all of it."""
    if len(test) <= MOST_SAMPLES:
        return test
    chosen = Draws(seed).numpy("report-features").choice(len(test), MOST_SAMPLES, replace=False)
    return test.subset(np.sort(chosen))


def _prototypes(folder: Path, width: int) -> tuple[Tensor, Tensor]:
    """All hyper-prototypes [P, D] with their classes [P], or one vector a class, or none."""
    path = folder / HYPER_PROTOTYPES_FILE
    try:
        vectors = load_file(path).get(HYPER_PROTOTYPES) if path.exists() else None  # S [C, K, D]
    except SafetensorError as error:
        raise ConfigError(f"{path} is damaged ({error}); remove it, or run again") from None
    if vectors is not None and vectors.shape[-1:] != (width,):
        raise ConfigError(f"{path} does not fit the model: its vectors are not of width {width}")
    if vectors is not None and vectors.ndim == 3 and vectors.shape[0] * vectors.shape[1] <= MOST_VECTORS:
        used = vectors.ne(0).any(dim=-1)  # [C, K]: a class may use fewer than K slots
        return vectors[used], used.nonzero()[:, 0]
    trace = Trace.read(folder)
    if trace is None:
        return torch.zeros(0, width), torch.zeros(0, dtype=torch.int64)
    known = trace.known[-1]
    return trace.vectors[-1][known], known.nonzero()[:, 0]
