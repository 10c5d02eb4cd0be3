"""Whole rounds of the reference, replayed through this project's own visit and server step.

What the reference drew at random is fed in; everything else is the code that runs in production: `visit`,
`weighted_mean`, and `FedHPro.server_step` under the preset `reference`. In float32 each round starts from the
reference's own hyper-prototypes, because their coordinate-wise matching amplifies rounding (up to 0.6 between float32
and float64).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from released_mean import released_mean
from torch import Tensor, nn

from client_app import visit as visit_module
from fedhpro_flwr.calibration import retrain_head
from fedhpro_flwr.client import local_steps
from fedhpro_flwr.client_data import ClientData
from fedhpro_flwr.config import RunConfig
from fedhpro_flwr.data import Split
from fedhpro_flwr.head import Head
from fedhpro_flwr.hyper_prototypes import HyperPrototypes
from fedhpro_flwr.methods import head_calibration
from fedhpro_flwr.methods.fedhpro import FedHPro
from fedhpro_flwr.methods.fedhpro_state import FedHProState
from fedhpro_flwr.methods.head_calibration import Calibrated
from fedhpro_flwr.models import Model
from fedhpro_flwr.records import Broadcast, Task, Update
from fedhpro_flwr.seeding import Draws
from fedhpro_flwr.timing import Stopwatch

GOLDEN = "e2e_*.npz"
HEAD_DISTANCE = {"matching": "rowwise", "cos": "cosine", "mse": "mse"}
HP_DISTANCE = {"matching": "coordinate", "cos": "cosine", "mse": "mse"}


class Cnn(nn.Module):
    """The encoder of the `cnn` files."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.conv2, self.bn2 = nn.Conv2d(8, 16, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(16)

    def forward(self, x: Tensor) -> Tensor:
        return self.bn2(self.conv2(self.bn1(self.conv1(x)).relu())).relu().mean((2, 3))


class Mlp(nn.Module):
    """The encoder of the `mlp` files."""

    def __init__(self, inputs: int, hidden: int, width: int) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(inputs, hidden), nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.fc1(x.flatten(1)).relu()).relu()


@dataclass(frozen=True, eq=False)
class Floats(ClientData):
    """Inputs as the file has them, in the precision of the run."""

    def encoder_inputs(self, inputs: Tensor) -> Tensor:
        return inputs.to(torch.get_default_dtype())


def ours(name: str) -> str:
    return name.replace("classifier.", "head.") if name.startswith("classifier.") else f"encoder.{name}"


def state_under(golden: dict[str, np.ndarray], prefix: str, suffix: str = "") -> dict[str, Tensor]:
    """The tensors of one model in the file, under this project's names."""
    return {
        ours(key.removeprefix(prefix).removesuffix(suffix)): torch.from_numpy(np.array(value))
        for key, value in golden.items()
        if key.startswith(prefix) and key.endswith(suffix)
    }


def build(golden: dict[str, np.ndarray]) -> Model:
    classes, width = int(golden["num_classes"]), int(golden["dim"])
    if str(golden["kind"]) == "cnn":
        encoder: nn.Module = Cnn()
    else:
        hidden, inputs = golden["init/fc1.weight"].shape
        encoder = Mlp(inputs, hidden, width)
    return Model(encoder, nn.Linear(width, classes))


def settings(golden: dict[str, np.ndarray]) -> RunConfig:
    metric = str(golden["hp_metric"])
    return RunConfig.parse(
        {
            "preset": "reference",
            "class-gradients.samples-per-class": 0,
            "class-gradients.augment": "none",
            "hyper-prototypes.prototypes-per-class": int(golden["hp_len"]),
            "hyper-prototypes.matching-steps": int(golden["hp_steps"]),
            "hyper-prototypes.matching-lr": float(golden["lr_hp"]),
            "hyper-prototypes.matching-distance": HP_DISTANCE[metric],
            "calibration.prototypes-per-class": int(golden["meta_len"]),
            "calibration.matching-steps": int(golden["meta_steps"]),
            "calibration.matching-lr": float(golden["lr_hp"]),
            "calibration.matching-distance": HEAD_DISTANCE[metric],
            "calibration.epochs": int(golden["retrain_epochs"]),
            "calibration.batch-size": int(golden["retrain_batch"]),
            "calibration.lr": float(golden["retrain_lr"]),
            "losses.temperature": float(golden["tau"]),
            "local.epochs": int(golden["epochs"]),
            "local.batch-size": int(golden["batch_size"]),
            "local.lr": float(golden["lr_local"]),
            "local.momentum": 0.0,
        }
    )


@pytest.fixture
def in_precision(precision: str) -> Iterator[torch.dtype]:
    wanted = torch.float64 if precision == "f64" else torch.float32
    before = torch.get_default_dtype()
    torch.set_default_dtype(wanted)
    yield wanted
    torch.set_default_dtype(before)


def test_whole_rounds(golden: Any, precision: str, in_precision: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    arrays = golden.arrays
    dtype, config = in_precision, settings(arrays)
    atol = 1e-9 if precision == "f64" else 2e-5
    method, model = FedHPro(config), build(arrays).to(dtype)

    def floats(name: str) -> Tensor:
        return torch.from_numpy(arrays[name]).to(dtype)

    def check(value: Tensor, name: str, tolerance: float = atol) -> None:
        wanted = arrays[f"{name}_{precision}"]
        np.testing.assert_allclose(value.double().numpy(), wanted, rtol=tolerance, atol=tolerance, err_msg=name)

    state: object = FedHProState(
        HyperPrototypes(floats("H0")),
        Calibrated(floats("F0"), Head(floats("meta_W0"), floats("meta_b0"))),
        wants_head_gradients=True,
    )
    weights = {
        name: value.to(dtype) if value.is_floating_point() else value
        for name, value in state_under(arrays, "init/").items()
    }
    for turn in range(int(arrays["rounds"])):
        updates: list[Update] = []
        for client in arrays["online"][turn].tolist():
            where = f"r{turn}/client{client}"
            given = torch.from_numpy(arrays[f"{where}/order"].astype(np.int64))  # [epochs, n]
            epochs = iter(given)
            drawn = SimpleNamespace(randperm=lambda n, generator, epochs=epochs: next(epochs), split=torch.split)
            monkeypatch.setattr(local_steps, "torch", drawn)
            data = Floats(
                Split(torch.from_numpy(arrays[f"client{client}/x"]), torch.from_numpy(arrays[f"client{client}/y"])),
                None,
                (0.0,),
                (1.0,),
            )
            received = Broadcast(weights, method.broadcast(state), config, Task(turn + 1, client))
            update = visit_module.visit(model, data, received, method)
            update = Update(
                client,
                update.num_examples,
                {name: value.clone() for name, value in update.model.items()},
                update.tensors,
            )
            updates.append(update)

            for name, value in update.model.items():
                check(value, f"{where}/local/{name.replace('head.', 'classifier.').removeprefix('encoder.')}")
            if f"{where}/feat_grad_{precision}" in arrays:
                ids = update.tensors["class-ids"]
                assert arrays[f"{where}/mask"].nonzero()[0].tolist() == ids.tolist()
                for record, name in (
                    ("class-gradients", "feat_grad"),
                    ("head-weight-gradients", "W_grad"),
                    ("head-bias-gradients", "b_grad"),
                ):
                    dense = torch.zeros(arrays[f"{where}/{name}_{precision}"].shape, dtype=dtype)
                    dense[ids] = update.tensors[record]
                    check(dense, f"{where}/{name}")

        if str(arrays["aggregation"]) == "weighted_fedavg":
            mean = released_mean([update.model for update in updates], [update.num_examples for update in updates])
        else:
            mean = dict(updates[-1].model)  # the release's aliasing: what it averages is the last client's model
        for name, value in mean.items():
            check(value, f"r{turn}/agg/{name.replace('head.', 'classifier.').removeprefix('encoder.')}")

        start = Head(floats(f"r{turn}/retrain_W0"), floats(f"r{turn}/retrain_b0"))
        order = torch.from_numpy(arrays[f"r{turn}/retrain_order"].astype(np.int64))
        monkeypatch.setattr(head_calibration, "fresh_head", lambda classes, width, rng, start=start: start)
        monkeypatch.setattr(
            head_calibration,
            "retrain_head",
            lambda prototypes, head, orders, order=order, **options: retrain_head(prototypes, head, order, **options),
        )
        step = method.server_step(state, weights, mean, updates, Draws(0, turn + 1), Stopwatch())
        weights, state = dict(step.model), step.state
        assert isinstance(state, FedHProState)
        assert state.calibrated is not None
        check(state.calibrated.prototypes, f"r{turn}/meta_hp")
        check(weights["head.weight"], f"r{turn}/classifier_W")
        check(weights["head.bias"], f"r{turn}/classifier_b")
        if precision == "f64":
            check(state.hyper_prototypes.vectors, f"r{turn}/hyper_hp", 1e-6)
        else:
            state = replace(state, hyper_prototypes=HyperPrototypes(floats(f"r{turn}/hyper_hp_f32")))

        model.load_state_dict(weights)
        model.eval()
        with torch.no_grad():
            logits = model(floats("test_x"))
        check(logits, f"r{turn}/test_logits")
        assert (logits.argmax(1).numpy() == arrays["test_y"]).mean() == arrays[f"r{turn}/test_acc_{precision}"]
