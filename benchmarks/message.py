"""What a message to a deployed client costs: the process, its imports, data, the visit, the reply.

    python benchmarks/message.py                                      # a client's process alone, in seconds of a core
    python benchmarks/message.py --data mnist --root /where/data/lies # with data that must be decoded
    python benchmarks/message.py --cluster                            # also whole rounds on loopback

A SuperNode starts a new process for each message. A part of the first table is the CPU time of a fresh process that
goes as far as this part, minus that of one that stops before it. It is the best of several, so other jobs of the
machine hardly count.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
sys.path[:0] = [str(HERE), str(ROOT), str(ROOT / "tests" / "deployment")]

from measure import Row, machine  # noqa: E402
from rich.console import Console  # noqa: E402
from run import table  # noqa: E402

REPEATS = 3
# What a client's process does, in its order; each part goes on where the one before it ended.
PARTS = {
    "Python": "import sys",
    "NumPy": "import numpy",
    "Flower": "import flwr.app, flwr.clientapp\nfrom flwr.app import Context, RecordDict",
    "torch": "import fedhpro_flwr.torch_at_once",
    "this app": "import client_app.app\nfrom fedhpro_flwr.client.configured_client import configured_client\n"
    "from client_app.visit import visit\nfrom fedhpro_flwr.code_fingerprint import code_fingerprint\n"
    "from fedhpro_flwr.device import settle\n"
    "from fedhpro_flwr.methods import build_method\n"
    "from fedhpro_flwr.records import Broadcast, Task, pack_update\nfrom fedhpro_flwr.config import RunConfig",
    "settings and fingerprint of the code": "config = RunConfig.parse(SETTINGS)\nsettle(config)\ncode_fingerprint()",
    "data and model": "task = Task(1, 0, evaluate=True)\n"
    "context = Context(run_id=1, node_id=1, node_config={}, state=RecordDict(), run_config={})\n"
    "model, data = configured_client(config, task, context)",
    "the visit, an epoch": "method = build_method(config)\n"
    "weights = {name: value.clone() for name, value in model.state_dict().items()}\n"
    "received = Broadcast(weights, method.broadcast(method.start(weights)), config, task)\n"
    "update = visit(model, data, received)",
    "the reply": "pack_update(update)",
}
OURS = ("this app", "settings and fingerprint of the code", "data and model", "the reply")
SMALL = {"partition.num-partitions": 10, "local.epochs": 1, "model.name": "mlp", "model.width": 8}


def main() -> None:
    """Measure and show."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="digits", help="data.name")
    parser.add_argument("--root", default="", help="data.root")
    parser.add_argument("--cluster", action="store_true", help="also whole rounds on loopback, about two minutes")
    options = parser.parse_args()
    settings = SMALL | {
        "data.name": options.data,
        "data.root": str(Path(options.root).resolve()) if options.root else "",
    }
    rows = list(part_rows(settings))
    if options.cluster:
        rows += round_rows(settings)
    console = Console(highlight=False, width=160)
    console.print(table(rows))
    console.print(", ".join(f"{key} {value}" for key, value in machine().items()), soft_wrap=True)


def part_rows(settings: dict[str, object]) -> Iterator[Row]:
    """CPU seconds of each part of a client's process."""
    parts, section = list(PARTS), f"a message, {settings['data.name']}"
    ours = before = 0.0
    for place, name in enumerate(parts):
        code = "\n".join(PARTS[each] for each in parts[: place + 1]).replace("SETTINGS", repr(settings))
        now = min([process_seconds(code) for _ in range(REPEATS + 1)][1:])  # the first fills the caches of files
        taken, before = max(now - before, 0.0), now
        ours += taken if name in OURS else 0.0
        yield Row(section, name, taken, "s of a core", note="ours" if name in OURS else "")
    yield Row(section, "all", before, "s of a core")
    yield Row(section, "of it ours", ours, "s of a core")


def process_seconds(code: str) -> float:
    """CPU time of a fresh Python that runs `code`.

    Raises:
        RuntimeError: it failed, with what it said.
    """
    env = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    before = os.times()
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    after = os.times()
    if done.returncode:
        raise RuntimeError(done.stderr)
    return after.children_user - before.children_user + after.children_system - before.children_system


def round_rows(settings: dict[str, object]) -> Iterator[Row]:
    """Rounds of a SuperLink with two SuperNodes on this machine; what of them is no client's work is Flower's."""
    from cluster import Cluster

    from fedhpro_flwr.runs.run_folder import read_rounds
    from fedhpro_flwr.settings.from_command_line import prepare

    with tempfile.TemporaryDirectory() as scratch, Cluster(Path(scratch, "cluster")) as cluster:
        folder = Path(scratch, "run")
        changes = settings | {
            "partition.num-partitions": 2, "clients.num-nodes": 2, "rounds": 4, "run-folder": str(folder),
            "clients.state-path": str(Path(scratch, "state")),
        }  # fmt: skip
        cluster.superlink()
        for partition in range(2):
            cluster.supernode(partition)
        if cluster.run(prepare(None, [f"{key}={value}" for key, value in changes.items()]).flat()):
            raise RuntimeError(cluster.logs())
        rounds = read_rounds(folder)[1:]
    whole = statistics.median(line["seconds"] for line in rounds)
    work = statistics.median(sum(line["client_seconds"].values()) / 2 for line in rounds)
    yield Row("a round", "2 SuperNodes, one message each", whole, "s", note=f"a client's own phases {work:.2f} s")


if __name__ == "__main__":
    main()
