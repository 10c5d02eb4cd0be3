"""A deployed client is a new process for every message: what it imports, it imports in every round."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[1]
NOT_NEEDED = (
    "matplotlib", "sklearn", "scipy", "pandas", "torchvision", "PIL", "ray", "transformers", "onnx", "tensorboard",
    "wandb", "mlflow", "torch._dynamo", "torch._inductor", "server_app", "fedhpro_flwr.report",
    "fedhpro_flwr.runs.curves", "fedhpro_flwr.exported", "fedhpro_flwr.commands", "fedhpro_flwr.launch",
)  # fmt: skip
VISIT = """
import sys
from flwr.app import Context, RecordDict
from client_app.app import app
from client_app.visit import visit
from fedhpro_flwr.config import RunConfig
from fedhpro_flwr.client.configured_client import configured_client
from fedhpro_flwr.methods import build_method
from fedhpro_flwr.records import Broadcast, Task, pack_update

config = RunConfig.parse(**SETTINGS, local__epochs=1, model__width=8)
context = Context(run_id=1, node_id=1, node_config={}, state=RecordDict(), run_config={})
task = Task(1, 0, evaluate=True)
model, data = configured_client(config, task, context)
method, weights = build_method(config), {name: value.clone() for name, value in model.state_dict().items()}
received = Broadcast(weights, method.broadcast(method.start(weights)), config, task)
pack_update(visit(model, data, received))
"""
FOUND = f"\nprint(*(name for name in {NOT_NEEDED!r} if name in sys.modules))"


def imported(code: str) -> list[str]:
    """Which of NOT_NEEDED a fresh process has imported after `code`."""
    done = subprocess.run([sys.executable, "-c", code + FOUND], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_the_app_alone():
    assert imported("import sys; import client_app.app") == []


@pytest.mark.parametrize("name", ["digits", "npz"])
def test_a_whole_visit(tmp_path, name):
    settings = {"data__name": name, "partition__num_partitions": 2}
    if name == "npz":
        draw = np.random.default_rng(0)
        parts = {"train": 40, "test": 8}
        arrays = {f"x_{part}": draw.integers(0, 256, (n, 1, 8, 8), dtype=np.uint8) for part, n in parts.items()}
        labels = {f"y_{part}": np.arange(n) % 4 for part, n in parts.items()}
        np.savez(tmp_path / "own.npz", **arrays, **labels)
        settings["data__path"] = str(tmp_path / "own.npz")
    assert imported(VISIT.replace("SETTINGS", repr(settings))) == []


def test_what_is_imported_is_found():
    assert imported("import sys; import PIL") == ["PIL"]
