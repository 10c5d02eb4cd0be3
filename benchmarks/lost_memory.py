"""What it costs in accuracy if clients lose what they keep between rounds: a table of docs/faults.md.

    python benchmarks/lost_memory.py                                        # Digits-4, `tuned` and SCAFFOLD, 3 seeds
    python benchmarks/lost_memory.py --conf digits-small --seeds 0          # any experiment, any seeds

Every so many rounds one client, each time the next, finds its folder gone, as on a machine whose disk was replaced.
Then the control variates of all clients begin at zero again, so in the round after it nobody has any to lose. The
accuracy is the global model's on the server's test data, mean of the last ten tested rounds.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import sys
import tempfile
from collections.abc import Mapping
from logging import CRITICAL, getLogger
from pathlib import Path

from flwr.app import Context
from flwr.clientapp import ClientApp

sys.path[:0] = [str(Path(__file__).resolve().parents[1])]

from client_app.app import make_client_app  # noqa: E402
from fedhpro_flwr.client.configured_client import configured_client  # noqa: E402
from fedhpro_flwr.client_data import ClientData  # noqa: E402
from fedhpro_flwr.config import RunConfig  # noqa: E402
from fedhpro_flwr.launch.in_process import run_in_process  # noqa: E402
from fedhpro_flwr.models import Model  # noqa: E402
from fedhpro_flwr.records import Task  # noqa: E402
from fedhpro_flwr.runs.run_folder import SUMMARY_FILE, read_rounds  # noqa: E402
from fedhpro_flwr.settings.from_command_line import prepare  # noqa: E402
from server_app.app import app as server_app  # noqa: E402

ROWS: Mapping[str, tuple[str, ...]] = {
    "fedavg": ("method.name=fedavg",),
    "scaffold": ("method.name=scaffold",),
    "tuned": ("preset=tuned",),
    "tuned, not corrected": ("preset=tuned", "losses.correction=none"),
}
NEVER = 0


def loses(every: int, server_round: int) -> bool:
    """Whether a client has lost something when this round begins; before the first nothing is kept."""
    return every > 0 and server_round > 1 and server_round % every == 0


def forgetful(every: int) -> ClientApp:
    """Clients of which one has lost its folder every so many rounds."""

    def client_side(config: RunConfig, task: Task, context: Context) -> tuple[Model, ClientData]:
        lost = loses(every, task.server_round)
        if lost and task.partition_id == task.server_round // every % config.partition.num_partitions:
            shutil.rmtree(Path(config.run_folder) / "clients" / task.run / f"client-{task.partition_id}")
        return configured_client(config, task, context)

    return make_client_app(client_side)


def measured(config: RunConfig, every: int) -> float:
    """Accuracy in percent.

    Raises:
        RuntimeError: what is measured did not happen.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        settings = config.flat() | {"run-folder": name}
        run_in_process(server_app, forgetful(every), config.partition.num_partitions, settings)
        if any(line.get("began_anew") for line in read_rounds(folder)) != (every > 0):
            raise RuntimeError("a client lost something and did not say so, or the reverse")
        return 100 * float(json.loads((folder / SUMMARY_FILE).read_text())["accuracy"]["mean-of-last-ten"])


def main() -> None:
    """Play every method with every seed and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--conf", default="digits4-small", help="an experiment of conf/, or a TOML file")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--every", type=int, nargs="+", default=[NEVER, 10, 5, 2, 1], help="rounds; 0 for never")
    options = parser.parse_args()
    getLogger("flwr").setLevel(CRITICAL)
    print("| | lost every ... rounds | accuracy | lowest to highest |\n|---|---:|---:|---:|")
    for row, changes in ROWS.items():
        keeps = row in ("scaffold", "tuned")
        for every in options.every if keeps else [NEVER]:
            accuracies = [
                measured(prepare(options.conf, [*options.set, *changes, f"seed={seed}"]), every)
                for seed in options.seeds
            ]
            mean, low, high = statistics.fmean(accuracies), min(accuracies), max(accuracies)
            print(f"| {row} | {every or 'never'} | {mean:.1f} | {low:.1f} to {high:.1f} |", flush=True)


if __name__ == "__main__":
    main()
