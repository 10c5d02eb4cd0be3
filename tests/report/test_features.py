"""Features in the plane: the projection against an eigendecomposition, and both against permutations and repeats."""

from __future__ import annotations

import io
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from matplotlib.image import imread
from safetensors.torch import load_file, save_file

from fedhpro_flwr.cli import main
from fedhpro_flwr.config import ConfigError, RunConfig
from fedhpro_flwr.report import features as of_report
from fedhpro_flwr.report.feature_picture import feature_picture
from fedhpro_flwr.report.features import (
    Features,
    Plane,
    neighbour_embedding,
    principal_axes,
    read_features,
    with_data_here,
)
from fedhpro_flwr.report.runs import Run


def drawn(samples=30, width=6, prototypes=4):
    generator = torch.Generator().manual_seed(3)
    scale = torch.arange(1.0, width + 1)
    return Features(
        torch.randn(samples, width, generator=generator) * scale,
        torch.arange(samples) % 2,
        torch.randn(prototypes, width, generator=generator),
        torch.arange(prototypes) % 2,
        ("a", "b"),
    )


def test_the_axes_are_those_of_largest_variance():
    features = drawn()
    plane = principal_axes(features)
    variances = np.linalg.eigvalsh(np.cov(features.samples.double().numpy().T, bias=True))[::-1]
    np.testing.assert_allclose(plane.samples.var(0), variances[:2], rtol=1e-6)
    np.testing.assert_allclose(plane.samples.mean(0), 0, atol=1e-9)
    mirrored = principal_axes(replace(features, samples=-features.samples))
    np.testing.assert_allclose(mirrored.samples, -plane.samples, atol=1e-9)  # the axes have the same signs
    assert abs(np.corrcoef(plane.samples.T)[0, 1]) < 1e-6


def test_prototypes_are_projected_as_samples_are():
    features = drawn()
    same = replace(features, prototypes=features.samples[:5], prototype_labels=features.labels[:5])
    plane = principal_axes(same)
    np.testing.assert_allclose(plane.prototypes, plane.samples[:5], atol=1e-9)


def test_the_order_of_samples_changes_nothing():
    features, order = drawn(), torch.randperm(30, generator=torch.Generator().manual_seed(0))
    other = replace(features, samples=features.samples[order], labels=features.labels[order])
    np.testing.assert_allclose(principal_axes(other).samples, principal_axes(features).samples[order], atol=1e-9)


def test_neighbours_are_embedded_equally_for_equal_seeds():
    features = drawn()
    first, again = neighbour_embedding(features, 1), neighbour_embedding(features, 1)
    assert first.samples.shape == (30, 2)
    assert first.prototypes.shape == (4, 2)
    np.testing.assert_array_equal(first.samples, again.samples)


def test_every_sample_is_a_dot_in_the_png_too():
    plane = Plane(np.stack([np.arange(8.0), np.arange(8.0) % 3], axis=1), np.zeros((0, 2)))
    features = replace(drawn(8), class_names=("a", "b", *"cdefghijklmnopqrstu"))  # so many are not named on the dots
    shown = imread(io.BytesIO(feature_picture(features, plane, "features", "title", "caption").png))[..., :3]
    coloured = (np.ptp(shown, axis=-1) > 0.2).sum()
    assert 8 * 30 < coloured < 8 * 60  # a dot is 7.5 pixels wide


def test_data_of_another_machine_is_looked_for_here(tmp_path, monkeypatch):
    monkeypatch.setenv("FEDHPRO_DATA_DIR", str(tmp_path))
    assert with_data_here(RunConfig.parse(data__root="/no/such/folder")).data.root == str(tmp_path)
    assert with_data_here(RunConfig.parse(data__root="/")).data.root == "/"
    assert with_data_here(RunConfig.parse()).data.root == ""


def small_run(folder, method):
    settings = {
        "rounds": 1, "partition.num-partitions": 2, "data.train-limit": 60, "local.epochs": 1, "model.name": "mlp",
        "model.width": 8, "method.name": method, "hyper-prototypes.matching-steps": 1, "run-folder": folder,
    }  # fmt: skip
    changes = [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]
    assert main(["run", *changes, "--engine", "in-process"]) == 0


def test_without_prototypes_the_samples_are_there_and_without_a_model_it_says_why(tmp_path):
    small_run(tmp_path / "run", "fedavg")
    whole = read_features(Run.read(tmp_path / "run"))
    assert (whole.samples.shape, whole.prototypes.shape, whole.prototype_labels.shape) == ((359, 8), (0, 8), (0,))
    (tmp_path / "run" / "model.safetensors").unlink()
    with pytest.raises(ConfigError, match=r"^it has no single global model$"):
        read_features(Run.read(tmp_path / "run"))
    (tmp_path / "run" / "summary.json").unlink()
    with pytest.raises(ConfigError, match=r"^it has not finished, so there is no model yet$"):
        read_features(Run.read(tmp_path / "run"))


def test_features_that_are_all_alike_make_no_picture_and_no_crash(tmp_path):
    small_run(tmp_path / "run", "fedavg")
    path = tmp_path / "run" / "model.safetensors"
    save_file({name: torch.zeros_like(tensor) for name, tensor in load_file(path).items()}, path)
    with pytest.raises(ConfigError, match=r"the model encodes its test data .359 samples, width 8. all alike"):
        read_features(Run.read(tmp_path / "run"))


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run with 5 hyper-prototypes for each of 10 classes."""
    folder = tmp_path_factory.mktemp("features") / "run"
    small_run(folder, "fedhpro")
    return folder


def test_samples_are_drawn_from_the_seed_and_too_many_prototypes_become_one_a_class(finished, monkeypatch):
    run = Run.read(finished)
    whole = read_features(run)
    assert (whole.samples.shape, whole.prototypes.shape) == ((359, 8), (50, 8))
    assert torch.equal(whole.prototype_labels, torch.arange(10).repeat_interleave(5))
    monkeypatch.setattr(of_report, "MOST_SAMPLES", 20)
    monkeypatch.setattr(of_report, "MOST_VECTORS", 49)
    few, again = read_features(run), read_features(run)
    assert few.samples.shape == (20, 8) and torch.equal(few.samples, again.samples)
    assert not torch.allclose(few.samples, whole.samples[:20])
    for z, label in zip(few.samples, few.labels, strict=True):
        assert ((whole.samples - z).abs().amax(dim=1).lt(1e-6) & whole.labels.eq(label)).any()
    assert (few.prototypes.shape, few.prototype_labels.tolist()) == ((10, 8), list(range(10)))
    for vectors in (whole.samples, whole.prototypes, few.prototypes):
        torch.testing.assert_close(vectors.norm(dim=1), torch.ones(len(vectors)))


def test_damaged_hyper_prototypes_are_named(finished, tmp_path):
    shutil.copytree(finished, tmp_path / "run")
    run, path = Run.read(tmp_path / "run"), tmp_path / "run" / "hyper-prototypes.safetensors"
    slots = load_file(path)["hyper-prototypes"]
    slots[0, 3:] = 0  # a class may use fewer slots
    save_file({"hyper-prototypes": slots}, path)
    assert read_features(run).prototype_labels.bincount().tolist() == [3] + 9 * [5]
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ConfigError, match=rf"^{path} is damaged .*; remove it, or run again$"):
        read_features(run)
    save_file({"hyper-prototypes": torch.ones(10, 5, 7)}, path)
    with pytest.raises(ConfigError, match=rf"^{path} does not fit the model: its vectors are not of width 8$"):
        read_features(run)
