"""A run on SuperLink and SuperNodes of which something is killed again and again, compared with an undisturbed run.

    python benchmarks/chaos.py                                # 40 rounds of `tuned`, 12 to 30 minutes
    python benchmarks/chaos.py --seed 3 --set preset=paper    # other moments, any settings

What is killed is drawn anew each time, with SIGKILL: the SuperLink with or without what it has started, the ServerApp,
a ClientApp, a SuperNode with or without what it has started, the command; or a SuperNode hangs. What runs as a service
is started again, as systemd would, the SuperLink on its database, now and then only after a minute; the command is
given again with --resume. With a quorum of all clients the run must end in the same bits.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from logging import ERROR, getLogger
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "deployment")]

from cluster import CONNECTION, Cluster  # noqa: E402
from member import Member  # noqa: E402

from client_app.app import app as client_app  # noqa: E402
from fedhpro_flwr.launch.in_process import run_in_process  # noqa: E402
from fedhpro_flwr.runs.run_folder import CONFIG_FILE, SUMMARY_FILE, read_rounds  # noqa: E402
from fedhpro_flwr.settings.from_command_line import prepare  # noqa: E402
from server_app.app import app as server_app  # noqa: E402

CLIENTS = 3
SETTINGS = (
    "preset=tuned", f"partition.num-partitions={CLIENTS}", f"clients.num-nodes={CLIENTS}", "clients.quorum=1.0",
    "clients.retries=50", "clients.timeout=30", "data.train-limit=240", "local.epochs=1", "model.name=mlp",
    "model.width=8", "evaluation.clients-every=2", "rounds=40",
)  # fmt: skip
QUIET_SECONDS = (5.0, 90.0)  # between two kills, at least and at most
MOST_SECONDS = 3600.0
LOOKED_AFTER = ("--superlink", CONNECTION, "--restarts", "1000")
# What may differ in a line of metrics.jsonl: clocks, what a repeated round sent twice, and whom it missed before.
OF_REPEATS = ("bytes_up", "bytes_down", "set_aside")


@dataclass
class Chaos:
    """A cluster, the command that looks after the run, and what befalls them.

    Args:
        cluster: as yet empty.
        folder: of the run.
        changes: `key=value` of its settings.
        draw: which fault comes next, and when.
    """

    cluster: Cluster
    folder: Path
    changes: list[str]
    draw: random.Random
    faults: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.began, self.home = time.monotonic(), self.cluster.folder
        self.superlink = self._superlink()
        self.nodes = [self._node(partition) for partition in range(CLIENTS)]
        self.command = self._command()

    def play(self) -> None:
        """Until the run is finished.

        Raises:
            SystemExit: it is not, after an hour.
        """
        quiet = 40.0  # seconds, so that the run begins
        while not (self.folder / SUMMARY_FILE).exists():
            until = time.monotonic() + quiet
            while time.monotonic() < until and not (self.folder / SUMMARY_FILE).exists():
                self._start_again()
                time.sleep(0.2)
            if not (self.folder / SUMMARY_FILE).exists():
                self._fault()
            if time.monotonic() - self.began > MOST_SECONDS:
                sys.exit(f"not finished in time\n{self.cluster.logs()}")
            quiet = self.draw.uniform(*QUIET_SECONDS)
        self.command.wait(120)

    def _fault(self) -> None:
        node = self.draw.choice(self.nodes)
        kind = self.draw.choice(
            ["superlink", "superlink alone", "serverapp", "clientapp", "node", "node alone", "node hangs", "command"]
        )
        self.faults[kind] += 1
        self._say(kind)
        if kind == "superlink":
            self.superlink.kill()
        elif kind == "superlink alone":
            self.superlink.process.kill()
        elif kind == "serverapp":
            _kill_app(kind, [member for member in self.cluster.members if member.name == "superlink"])
        elif kind == "clientapp":
            _kill_app(kind, [node])
        elif kind == "node":
            node.kill()
        elif kind == "node alone":
            node.process.kill()
        elif kind == "node hangs":
            node.hang()
            time.sleep(self.draw.choice((5, 45)))
            node.go_on()
        else:
            self.command.kill()

    def _start_again(self) -> None:
        if self.superlink.process.poll() is not None:
            time.sleep(self.draw.choice((0, 0, 5, 70)))
            self.superlink = self._superlink()
        for partition, node in enumerate(self.nodes):
            if node.process.poll() is not None:
                node.kill()  # what it has started lives on; a service manager ends that too
                with suppress(AssertionError):  # the SuperLink is away: again after a while
                    self.nodes[partition] = self._node(partition)
        if self.command.poll() is not None and not (self.folder / SUMMARY_FILE).exists():
            self._say(f"the command ended with {self.command.returncode} and is given again")
            time.sleep(2)
            self.command = self._command()

    def _superlink(self) -> Member:
        return self.cluster.superlink(database=self.home / "state.db")

    def _node(self, partition: int) -> Member:
        return self.cluster.supernode(partition, state_path=str(self.home / f"state-{partition}"))

    def _command(self) -> subprocess.Popen[bytes]:
        begun = (self.folder / CONFIG_FILE).exists()
        changes = [word for change in self.changes for word in ("--set", change)]
        arguments = ["--resume", str(self.folder)] if begun else [*changes, "--set", f"run-folder={self.folder}"]
        with (self.home / "command.log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "fedhpro_flwr.cli", "run", *arguments, *LOOKED_AFTER],
                cwd=self.home, env=os.environ | {"PYTHONPATH": str(ROOT), "FLWR_HOME": str(self.home)},
                stdout=log, stderr=subprocess.STDOUT,
            )  # fmt: skip

    def _say(self, what: str) -> None:
        print(
            f"{time.monotonic() - self.began:6.0f} s, after round {len(read_rounds(self.folder))}: {what}", flush=True
        )


def _kill_app(kind: str, members: list[Member]) -> None:
    for pid in [pid for member in members for pid in member.pids()]:
        with suppress(OSError):  # it has ended meanwhile
            if f"flwr-{kind}" in Path(f"/proc/{pid}/cmdline").read_text():
                os.kill(pid, signal.SIGKILL)


def outcome(folder: Path) -> dict[str, object]:
    """What a run leaves, without clocks and what a repeated round adds."""
    rounds = [
        {key: value for key, value in line.items() if "seconds" not in key and key not in OF_REPEATS}
        | {"clients": [{key: of for key, of in client.items() if "seconds" not in key} for client in line["clients"]]}
        for line in read_rounds(folder)
    ]
    return {path.name: path.read_bytes() for path in folder.glob("*.safetensors")} | {"rounds": rounds}


def main() -> None:
    """Play both runs and say whether they ended in the same bits."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0, help="of the faults")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"  # of all processes
    getLogger("flwr").setLevel(ERROR)
    changes = [*SETTINGS, *options.set]
    with tempfile.TemporaryDirectory() as place:
        whole, run = Path(place) / "whole", Path(place) / "run"
        config = prepare(None, [*changes, f"run-folder={whole}"])
        run_in_process(server_app, client_app, CLIENTS, config.flat())
        with Cluster(Path(place) / "cluster") as cluster:
            chaos = Chaos(cluster, run, changes, random.Random(options.seed))
            chaos.play()
        there, here = outcome(whole), outcome(run)
        differing = [name for name in there if there[name] != here.get(name)]
        seconds, faults = time.monotonic() - chaos.began, sum(chaos.faults.values())
        print(f"{config.rounds} rounds, {faults} faults in {seconds:.0f} s: {json.dumps(chaos.faults)}")
        print(f"other bits in {', '.join(differing)}" if differing else "the same bits as undisturbed")


if __name__ == "__main__":
    main()
