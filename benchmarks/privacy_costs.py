"""What the defences of `privacy.*` cost in accuracy: the last table of docs/privacy.md.

    python benchmarks/privacy_costs.py                                    # FedHPro on digits-small, 10 rounds, 3 seeds
    python benchmarks/privacy_costs.py --conf mnist-small --seeds 0       # any experiment, any seeds

The accuracy is the global model's on the server's test data, mean of the last three rounds. Noise is drawn from the
seed, so that the table can be repeated. Epsilon is what it would be after the last round if the noise were secret.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
import tempfile
from collections.abc import Mapping
from logging import ERROR, getLogger
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[1])]

from client_app.app import app as client_app  # noqa: E402
from fedhpro_flwr.client.privacy import EPSILON_IF_SECRET  # noqa: E402
from fedhpro_flwr.config import RunConfig, Scalar  # noqa: E402
from fedhpro_flwr.launch.in_process import run_in_process  # noqa: E402
from fedhpro_flwr.runs.run_folder import SUMMARY_FILE, read_rounds  # noqa: E402
from fedhpro_flwr.settings.from_command_line import prepare  # noqa: E402
from server_app.app import app as server_app  # noqa: E402


def on_classes(noise: float) -> dict[str, Scalar]:
    """Class gradients clipped to norm 1, with noise."""
    return {"privacy.class-clip": 1.0, "privacy.class-noise": noise}


def on_model(noise: float) -> dict[str, Scalar]:
    """The model's change clipped to norm 5, with noise."""
    return {"privacy.model-clip": 5.0, "privacy.model-noise": noise}


DEFENCES: Mapping[str, dict[str, Scalar]] = {
    "none": {},
    "min-samples 5": {"privacy.min-samples": 5},
    "min-samples 20": {"privacy.min-samples": 20},
    "classes: clip 1, noise 1": on_classes(1.0),
    "model: clip 5": on_model(0.0),
    "model: clip 5, noise 0.003": on_model(0.003),
    "model: clip 5, noise 0.01": on_model(0.01),
    "both: 1 and 0.003, rest withheld": on_classes(1.0) | on_model(0.003) | {"privacy.withhold": True},
    "both: 4 and 4, rest withheld": on_classes(4.0) | on_model(4.0) | {"privacy.withhold": True},
}
LAST_ROUNDS = 3


def measured(config: RunConfig) -> tuple[float, float]:
    """Accuracy in percent and epsilon of a run; infinite where none is told."""
    with tempfile.TemporaryDirectory() as folder:
        run_in_process(server_app, client_app, config.partition.num_partitions, config.flat() | {"run-folder": folder})
        tested = [line["tested"]["accuracy"] for line in read_rounds(Path(folder)) if line["tested"]]
        spent = json.loads((Path(folder) / SUMMARY_FILE).read_text()).get("privacy", {})
    return 100 * statistics.fmean(tested[-LAST_ROUNDS:]), spent.get(EPSILON_IF_SECRET, math.inf)


def main() -> None:
    """Play every defence with every seed and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--conf", default="digits-small", help="an experiment of conf/, or a TOML file")
    parser.add_argument("--set", action="append", default=["rounds=10"], metavar="KEY=VALUE")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--defences", nargs="+", default=list(DEFENCES), choices=tuple(DEFENCES))
    options = parser.parse_args()
    getLogger("flwr").setLevel(ERROR)
    print("| defence | accuracy | lowest to highest | epsilon |\n|---|---:|---:|---:|")
    for name in options.defences:
        accuracies, epsilon = [], math.inf
        for seed in options.seeds:
            settings = prepare(options.conf, options.set).flat() | DEFENCES[name]
            config = RunConfig.parse(settings | {"seed": seed, "privacy.noise": "seeded"})
            accuracy, epsilon = measured(config)
            accuracies.append(accuracy)
        mean, low, high = statistics.fmean(accuracies), min(accuracies), max(accuracies)
        told = "none" if math.isinf(epsilon) else f"{epsilon:.3g}"
        print(f"| {name} | {mean:.1f} | {low:.1f} to {high:.1f} | {told} |", flush=True)


if __name__ == "__main__":
    main()
