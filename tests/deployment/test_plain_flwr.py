"""`flwr run` as somebody types it, without this project's command: the app with a conf file, and somebody's own app."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import tomllib
import uuid
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import tomli_w
from member import COLOURS, MARK, marked

from fedhpro_flwr.launch.flower import QUIET, tool
from fedhpro_flwr.launch.private_superlink import free_port
from fedhpro_flwr.runs.progress import HEADING
from fedhpro_flwr.runs.run_folder import read_rounds

pytestmark = pytest.mark.simulation
ROOT = Path(__file__).resolve().parents[2]


class PlainFlower:
    """`flwr`, as somebody types it in a directory."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self.folder, self.environment = folder, environment

    def __call__(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [tool("flwr"), *arguments],
            cwd=self.folder, env=self.environment, capture_output=True, text=True, timeout=240,
        )  # fmt: skip

    def answer(self, *arguments: str) -> dict[str, Any]:
        """What a command says, as JSON; of a busy machine's SuperLink it is asked again.

        Flower gives the SuperLink that it starts 15 s, and 0.4 s to say that it runs; else it tries to start another.
        """
        for _ in range(5):
            done = self(*arguments, "--format", "json")
            if "Failed to start local SuperLink" not in done.stdout:
                break
        assert '"success": true' in done.stdout, done.stdout + done.stderr
        return dict(json.loads(done.stdout))

    def finished(self, app: Path, *arguments: str, nodes: int) -> str:
        """The log of a run of an app, which ended well."""
        engine = f"num-supernodes={nodes} client-resources-num-cpus=1"
        run_id = str(self.answer("run", str(app), "--federation-config", engine, *arguments)["run-id"])
        deadline = time.monotonic() + 180
        while True:
            (run,) = self.answer("ls", "--run-id", run_id)["runs"]
            if run["status"].startswith("finished") or time.monotonic() > deadline:
                break
            time.sleep(2)
        said = COLOURS.sub("", self("log", run_id, "--show").stdout)
        assert run["status"] == "finished:completed", said[-3000:]
        return said


@pytest.fixture
def plain_flower(tmp_path: Path) -> Iterator[PlainFlower]:
    """Plain `flwr`, with its own home, its own port, and its SuperLink stopped afterwards."""
    mark = f"plain-{uuid.uuid4().hex}"
    (tmp_path / "home").mkdir()
    environment = {
        MARK: mark,
        "FLWR_HOME": str(tmp_path / "home"),
        "FLWR_LOCAL_SUPERLINK_HTTP_API_PORT": str(free_port()),
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
    }
    yield PlainFlower(tmp_path, os.environ | QUIET | environment)
    for number in (signal.SIGTERM, signal.SIGKILL):  # it is detached on purpose; the mark tells whose it is
        for pid in marked(mark):
            with suppress(ProcessLookupError):
                os.kill(pid, number)
        deadline = time.monotonic() + 10
        while [*marked(mark)] and time.monotonic() < deadline:
            time.sleep(0.3)


def test_plain_flwr_run_with_a_conf_file(plain_flower, tmp_path):
    nested: dict = tomllib.loads((ROOT / "conf" / "digits-small.toml").read_text())
    nested["rounds"] = 1
    nested["results-dir"] = str(tmp_path / "results")
    nested["partition"]["num-partitions"] = 3
    nested["local"]["epochs"] = 1
    conf = tmp_path / "digits-small.toml"
    conf.write_text(tomli_w.dumps(nested))

    plain_flower.finished(ROOT, "--run-config", str(conf), nodes=3)
    (folder,) = (tmp_path / "results" / "digits-small").iterdir()
    assert json.loads((folder / "summary.json").read_text())["accuracy"]["best-round"] == 1
    assert len(read_rounds(folder)) == 1
    stored = tomllib.loads((folder / "config.toml").read_text())
    assert {key: stored["partition"][key] for key in nested["partition"]} == nested["partition"]
    assert {key: stored["local"][key] for key in nested["local"]} == nested["local"]


def test_plain_flwr_run_of_somebodys_own_app(plain_flower):
    said = plain_flower.finished(ROOT / "tests" / "library_app", nodes=3)
    _, rounds = said.split(HEADING)
    rows = [line.split() for line in rounds.splitlines() if re.match(r"INFO\s*:\s+\d+ ", line)]
    assert [(row[2], row[-1]) for row in rows[:2]] == [("1", "3"), ("2", "3")], said[-3000:]  # the round, replies of 3
