"""The real Flower engine: exit statuses, bit-equal runs, failures with a reason, and nothing left running."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import uuid
from dataclasses import dataclass
from pathlib import Path

import pytest

from client_app.app import app as client_app
from fedhpro_flwr.launch.in_process import run_in_process
from fedhpro_flwr.launch.simulation import simulate
from fedhpro_flwr.runs.run_folder import read_rounds
from fedhpro_flwr.settings.from_command_line import prepare
from server_app.app import app as server_app

pytestmark = pytest.mark.simulation
ROOT = Path(__file__).resolve().parents[2]
MARK = "FEDHPRO_TEST_SESSION"
TENSORS = ("model.safetensors", "hyper-prototypes.safetensors")
SMALL = {
    "experiment": "tiny",
    "rounds": 2,
    "partition.num-partitions": 4,
    "data.train-limit": 160,
    "local.epochs": 1,
    "model.width": 8,
    "hyper-prototypes.matching-steps": 3,
}


def settings(folder: Path, **changes) -> dict:
    """Complete settings of a small run in `folder`."""
    merged = SMALL | {key.replace("__", ".").replace("_", "-"): value for key, value in changes.items()}
    config = prepare(None, [f"{key}={value}" for key, value in merged.items()])
    return config.flat() | {"run-folder": str(folder)}


def marked_processes() -> list[int]:
    """Processes that this session started, by its mark in their environment; this one is not among them."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            environment = (folder / "environ").read_bytes()
            zombie = (folder / "stat").read_text().rpartition(")")[2].split()[0] == "Z"
        except OSError:
            continue
        if f"{MARK}={os.environ[MARK]}".encode() in environment.split(b"\0") and not zombie:
            found.append(int(folder.name))
    return sorted(set(found) - {os.getpid()})


def assert_nothing_runs() -> None:
    deadline = time.monotonic() + 20
    while (running := marked_processes()) and time.monotonic() < deadline:
        time.sleep(0.5)
    names = [Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ")[:120] for pid in running]
    assert names == []


@pytest.fixture(scope="session", autouse=True)
def mark():
    os.environ[MARK] = uuid.uuid4().hex
    yield
    del os.environ[MARK]


def fedhpro(folder: Path, **changes) -> subprocess.CompletedProcess[str]:
    """`fedhpro run` as a process."""
    merged = SMALL | {"run-folder": str(folder)}
    merged |= {key.replace("__", ".").replace("_", "-"): value for key, value in changes.items()}
    flags = [word for key, value in merged.items() for word in ("--set", f"{key}={value}")]
    return subprocess.run(
        [sys.executable, "-m", "fedhpro_flwr.cli", "run", *flags],
        cwd=folder.parent,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=240,
    )


@dataclass
class Done:
    folder: Path
    status: int
    said: str

    def bits(self) -> list[bytes]:
        return [(self.folder / name).read_bytes() for name in TENSORS]


@pytest.fixture(scope="session")
def on_ray(tmp_path_factory) -> Done:
    """Four clients on four nodes, through the command line."""
    folder = tmp_path_factory.mktemp("ray") / "run"
    done = fedhpro(folder)
    return Done(folder, done.returncode, done.stdout + done.stderr)


@pytest.fixture(scope="session")
def in_process(tmp_path_factory) -> Done:
    """The same settings without Ray."""
    return without_ray(tmp_path_factory.mktemp("in-process") / "run")


def without_ray(folder: Path, **changes) -> Done:
    run_in_process(server_app, client_app, 4, settings(folder, **changes))
    return Done(folder, 0, "")


def test_a_run_ends_with_0_and_all_its_files(on_ray):
    assert on_ray.status == 0, on_ray.said
    assert {path.name for path in on_ray.folder.iterdir()} == {
        "config.toml", "partition.json", "metrics.jsonl", "summary.json", "curves.png", "flower.log",
        "prototypes.safetensors", "checkpoint", ".writer", *TENSORS,
    }  # fmt: skip
    rounds = read_rounds(on_ray.folder)
    assert [line["server_round"] for line in rounds] == [1, 2]
    assert [[client["partition-id"] for client in line["clients"]] for line in rounds] == [[0, 1, 2, 3]] * 2
    assert [line["set_aside"] for line in rounds] == [[], []]
    assert "mean of last ten" in on_ray.said
    assert_nothing_runs()


def numbers(folder: Path) -> list:
    """The lines of metrics.jsonl without what a clock measured."""
    kept = []
    for line in read_rounds(folder):
        clients = [{k: v for k, v in client.items() if not k.startswith("seconds-")} for client in line["clients"]]
        kept.append({k: v for k, v in line.items() if "seconds" not in k} | {"clients": clients})
    return kept


def test_ray_and_in_process_agree_bit_for_bit(on_ray, in_process):
    assert on_ray.bits() == in_process.bits()
    assert numbers(on_ray.folder) == numbers(in_process.folder)


def test_clients_with_models_of_their_own_on_fewer_nodes_keep_them_in_files_and_both_engines_agree(tmp_path):
    """Each node plays two clients in turn, one after the other in the same process."""
    own = {"model__groups": "cnn=2, mlp=2", "model__share": "head", "evaluation__nearest_prototype": "true"}
    here = without_ray(tmp_path / "run", **own)
    there = Done(tmp_path / "ray" / "run", 0, "")
    of_two = settings(there.folder, **own, clients__num_nodes=2)
    simulate(of_two, num_nodes=2, log_file=tmp_path / "flower.log")
    said = (tmp_path / "flower.log").read_text()
    assert "no node names client 2, 3: the nodes that are there play them in turn" in said
    assert there.bits() == here.bits()
    assert numbers(there.folder) == numbers(here.folder)
    kept = [sorted(run.folder.glob("clients/*/*/visit-2-*.safetensors")) for run in (here, there)]
    assert len(kept[0]) == len(kept[1]) == 4
    assert [file.read_bytes() for file in kept[0]] == [file.read_bytes() for file in kept[1]]
    assert_nothing_runs()


def test_another_seed_gives_another_run(in_process, tmp_path):
    other = without_ray(tmp_path / "run", seed=1)
    assert all(one != two for one, two in zip(other.bits(), in_process.bits(), strict=True))


def test_missing_data_ends_with_1_and_the_servers_sentence(tmp_path):
    done = fedhpro(tmp_path / "run", data__name="npz", data__path="/no/such.npz")
    assert done.returncode == 1
    wanted = (
        "fedhpro: the run failed: data.path = '/no/such.npz' does not exist; put your data there or correct the path"
    )
    assert done.stderr.splitlines()[-1] == wanted
    assert not (tmp_path / "run" / "summary.json").exists()
    assert_nothing_runs()


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_run_that_is_stopped_leaves_no_process_and_no_scratch_folder(number, status, tmp_path):
    """Stopped in its second round, when all of Flower and Ray runs."""
    scratch, folder = tmp_path / "scratch", tmp_path / "run"
    scratch.mkdir()
    merged = SMALL | {"rounds": 10_000, "run-folder": folder}
    flags = [word for key, value in merged.items() for word in ("--set", f"{key}={value}")]
    with (tmp_path / "said.txt").open("w") as said:
        process = subprocess.Popen(
            [sys.executable, "-m", "fedhpro_flwr.cli", "run", *flags],
            cwd=tmp_path,
            # Ray's own folder stays where it is: the names of its sockets must be short.
            env=os.environ | {"PYTHONPATH": str(ROOT), "TMPDIR": str(scratch), "RAY_TMPDIR": "/tmp"},
            stdout=said,
            stderr=said,
        )
        try:
            deadline = time.monotonic() + 120
            while not (folder / "metrics.jsonl").exists() or not read_rounds(folder):
                assert process.poll() is None and time.monotonic() < deadline, (tmp_path / "said.txt").read_text()
                time.sleep(0.1)
            assert len(list(scratch.glob("fedhpro-*"))) == 1
            process.send_signal(number)
            assert process.wait(60) == status
        finally:
            process.kill()
            process.wait()
    assert list(scratch.glob("fedhpro-*")) == []
    assert_nothing_runs()
