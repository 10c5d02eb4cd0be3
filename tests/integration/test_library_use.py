"""The project as a library: a user's own apps, in packages of the same names, in a process of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
USER_APP = ROOT / "tests" / "library_app"

SCRIPT = """
from server_app.app import app as server_app, results
from client_app.app import app as client_app
import server_app as theirs
from fedhpro_flwr.launch.in_process import run_in_process

run_in_process(server_app, client_app, 3, {})
strategy, result = results[0]
print("theirs" if "library_app" in theirs.__file__ else "ours")
tensors = strategy.tensors()
print(sorted(result.train_metrics_clientapp), sorted(tensors), tuple(tensors["hyper-prototypes"].shape))
print(len(strategy.tests), type(strategy).__module__)
"""


def test_a_users_own_apps_with_packages_of_the_same_names() -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(USER_APP), str(ROOT)])}
    done = subprocess.run([sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True, cwd=USER_APP)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "theirs",
        "[1, 2] ['hyper-prototypes'] (3, 5, 8)",
        "3 fedhpro_flwr.front_doors.server_app.strategy",
    ]


def test_the_command_plays_its_own_apps_where_the_user_has_packages_of_their_names(tmp_path: Path) -> None:
    for package in ("client_app", "server_app"):
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").write_text("raise SystemExit('the user s own was imported')")
    small = {"rounds": 1, "partition.num-partitions": 2, "data.train-limit": 60, "local.epochs": 1}
    changes = [word for key, value in small.items() for word in ("--set", f"{key}={value}")]
    command = [sys.executable, "-m", "fedhpro_flwr.cli", "run", "--engine", "in-process", *changes]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "best" in done.stdout


def test_importing_the_package_alone_loads_neither_torch_nor_flower() -> None:
    script = "import sys, fedhpro_flwr; print({'torch', 'flwr', 'torchvision'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.strip() == "set()", done.stderr


def test_every_public_name_can_be_imported() -> None:
    script = "import fedhpro_flwr as f; print(all(getattr(f, name) is not None for name in f.__all__)); f.nothing"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.strip() == "True"
    assert "has no attribute 'nothing'" in done.stderr
