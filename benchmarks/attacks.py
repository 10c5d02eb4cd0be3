"""Hostile clients, and what each rule of aggregation makes of their updates: the tables of docs/robustness.md.

    python benchmarks/attacks.py                                          # FedHPro on digits-small, seed 0
    python benchmarks/attacks.py --seeds 0 1 2 --set method.name=fedavg   # any settings, any seeds
    python benchmarks/attacks.py --attacks "x -10" --rules mean median    # single cells

A hostile client trains as the others do. Then it sends w + f (w_k - w) in place of its model w_k, where w is the model
it received and f the factor of the attack, and f times what it measured of each class. The accuracy is the global
model's on the server's test data, mean of the last ten rounds.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from logging import ERROR, getLogger
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[1])]

from flwr.app import Context, Message, RecordDict  # noqa: E402
from flwr.clientapp import ClientApp  # noqa: E402

from client_app.app import app as client_app  # noqa: E402
from fedhpro_flwr.aggregation import VARIANCE  # noqa: E402
from fedhpro_flwr.config import RunConfig, Scalar  # noqa: E402
from fedhpro_flwr.launch.in_process import run_in_process  # noqa: E402
from fedhpro_flwr.records import (  # noqa: E402
    CLASS_GRADIENTS,
    CLASS_PROTOTYPES,
    MODEL,
    Tensors,
    array_record,
    asked_partition,
    tensors_of,
)
from fedhpro_flwr.runs.run_folder import read_rounds  # noqa: E402
from fedhpro_flwr.server.replies import QuorumError  # noqa: E402
from fedhpro_flwr.settings.from_command_line import prepare  # noqa: E402
from server_app.app import app as server_app  # noqa: E402

ATTACKS = {"sign flip": -1.0, "x -10": -10.0, "x 100": 100.0}  # the factor f
RULES: Mapping[str, dict[str, Scalar]] = {
    "mean": {},
    "median": {"aggregation.model": "median", "aggregation.class-gradients": "median"},
    "trimmed mean": {"aggregation.model": "trimmed-mean", "aggregation.class-gradients": "trimmed-mean"},
    "clipping": {"aggregation.clip-to-median": True},
    "contrary set aside": {"aggregation.drop-contrary": True},
    "contrary set aside, clipping": {"aggregation.drop-contrary": True, "aggregation.clip-to-median": True},
    "contrary set aside, trimmed mean": {
        "aggregation.drop-contrary": True,
        "aggregation.model": "trimmed-mean",
        "aggregation.class-gradients": "trimmed-mean",
    },
}
LAST_ROUNDS = 10


@dataclass(frozen=True)
class HostileClients:
    """A ClientApp of which some clients send `factor` times their update and class gradients."""

    app: ClientApp
    attackers: Collection[int]  # partition ids
    factor: float

    def __call__(self, message: Message, context: Context) -> Message:
        """As Flower calls a ClientApp."""
        reply = self.app(message, context)
        if message.metadata.message_type != "train" or asked_partition(message) not in self.attackers:
            return reply
        if reply.has_error():
            return reply
        sent = tensors_of(message.content.array_records[MODEL])
        return Message(scaled(reply.content, sent, self.factor), reply_to=message)


def scaled(content: RecordDict, sent: Tensors, factor: float) -> RecordDict:
    """The reply that a hostile client sends in place of its own: every record stays one that passes the checks."""
    records, arrays = dict(content), content.array_records
    model = tensors_of(arrays[MODEL])
    records[MODEL] = array_record(
        {
            name: sent[name] + factor * (tensor - sent[name]) if tensor.is_floating_point() else tensor
            for name, tensor in model.items()
        }
        | {name: tensor for name, tensor in model.items() if name.endswith(VARIANCE)}
    )
    for name in (CLASS_GRADIENTS, CLASS_PROTOTYPES):
        if name in arrays:
            records[name] = array_record({name: factor * tensors_of(arrays[name])[name]})
    return RecordDict(records)


def accuracy(config: RunConfig, attackers: Collection[int], factor: float, last: int = LAST_ROUNDS) -> float:
    """Accuracy in percent, mean of the last rounds that were tested; not a number where a lost quorum ended the run."""
    with tempfile.TemporaryDirectory() as folder:
        settings = config.flat() | {"run-folder": folder, "clients.num-nodes": config.partition.num_partitions}
        try:
            hostile = HostileClients(client_app, attackers, factor)
            run_in_process(server_app, hostile, config.partition.num_partitions, settings)  # type: ignore[arg-type]
        except QuorumError:
            return float("nan")
        tested = [line["tested"]["accuracy"] for line in read_rounds(Path(folder)) if line["tested"]]
    return 100 * statistics.fmean(tested[-last:])


def main() -> None:
    """Play every rule under every attack and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--conf", default="digits-small", help="an experiment of conf/, or a TOML file")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--attackers", type=int, nargs="*", default=[0, 1], help="their partition ids")
    parser.add_argument("--attacks", nargs="*", default=list(ATTACKS), choices=list(ATTACKS))
    parser.add_argument("--rules", nargs="+", default=list(RULES), choices=tuple(RULES))
    parser.add_argument("--out", type=Path, help="a JSON file for the numbers of every seed")
    options = parser.parse_args()
    getLogger("flwr").setLevel(ERROR)
    results: dict[str, dict[str, list[float]]] = {}
    print(f"| {' | '.join(['', 'no attack', *options.attacks])} |")
    print(f"|---|{'---:|' * (1 + len(options.attacks))}")
    for rule in options.rules:
        cells = results.setdefault(rule, {})
        for attack in ("no attack", *options.attacks):
            for seed in options.seeds:
                settings = prepare(options.conf, options.set).flat() | RULES[rule] | {"seed": seed}
                attackers, factor = (options.attackers, ATTACKS[attack]) if attack in ATTACKS else ([], 1.0)
                cells.setdefault(attack, []).append(accuracy(RunConfig.parse(settings), attackers, factor))
        shown = " | ".join(f"{statistics.fmean(values):.1f}" for values in cells.values()).replace("nan", "stopped")
        print(f"| {rule} | {shown} |", flush=True)
        if options.out:
            options.out.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
