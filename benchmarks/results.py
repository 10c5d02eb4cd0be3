"""The tables of docs/results.md: every variant of the method on every data set and kind of skew, three seeds each.

    python benchmarks/results.py            # run what is missing (results/table), then write the tables
    python benchmarks/results.py --jobs 1   # one process instead of two

A cell is the run `fedhpro run CONF --engine in-process --set ...` with the keys below; finished ones are not run again.
Each is one thread, so two at a time use two cores and the numbers do not depend on it.
"""

from __future__ import annotations

import argparse
import itertools
import json
import multiprocessing
import statistics
import sys
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

CONFS = ("digits-small", "mnist-small", "cifar10-subset-small")
SKEWS: dict[str, dict[str, float]] = {
    "alpha 0.5": {"partition.alpha": 0.5},
    "alpha 0.1": {"partition.alpha": 0.1},
    "alpha 0.5, rho 20": {"partition.alpha": 0.5, "partition.imbalance": 20.0},
}
VARIANTS: dict[str, dict[str, str | float]] = {
    "FedAvg": {"method.name": "fedavg"},
    "FedHPro `paper`": {},
    "FedHPro `reference`": {"preset": "reference"},
    "HPCL only": {"losses.hpal": "off"},
    "HPAL only": {"losses.hpcl": "off"},
    "frozen at random": {"hyper-prototypes.matching-steps": 0},
    "margin `l2`": {"losses.margin": "l2"},
    "margin `inner`": {"losses.margin": "inner"},
    "margin `none`": {"losses.margin": "none"},
}
SEEDS = (0, 1, 2)


@dataclass(frozen=True)
class Cell:
    """One run."""

    conf: str
    skew: str
    variant: str
    seed: int
    folder: Path

    @property
    def done(self) -> bool:
        """Whether it has been run."""
        return (self.folder / "summary.json").exists()

    @property
    def accuracy(self) -> dict[str, float]:
        """best, last and mean-of-last-ten, in percent."""
        kept = json.loads((self.folder / "summary.json").read_text())["accuracy"]
        return {name: 100 * kept[name] for name in ("best", "last", "mean-of-last-ten")}


def main() -> None:
    """Run the missing cells, then write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--results", type=Path, default=ROOT / "results" / "table")
    parser.add_argument("--confs", default=",".join(CONFS))
    options = parser.parse_args()
    cells = [
        Cell(conf, skew, variant, seed, options.results / conf / _name(skew) / _name(variant) / f"seed-{seed}")
        for seed, conf, skew, variant in itertools.product(SEEDS, options.confs.split(","), SKEWS, VARIANTS)
    ]
    missing = [cell for cell in cells if not cell.done]
    print(f"{len(cells)} cells, {len(missing)} to run", flush=True)
    with multiprocessing.get_context("spawn").Pool(options.jobs) as pool:
        for number, line in enumerate(pool.imap_unordered(run, missing), 1):
            print(f"{number}/{len(missing)} {line}", flush=True)
    print(tables(cells))


def run(cell: Cell) -> str:
    """Run one cell in this process."""
    from logging import ERROR, getLogger

    from client_app.app import app as client_app
    from fedhpro_flwr.cli import prepare
    from fedhpro_flwr.in_process import run_in_process
    from server_app.app import app as server_app

    getLogger("flwr").setLevel(ERROR)
    began = time.monotonic()
    changes = {**SKEWS[cell.skew], **VARIANTS[cell.variant], "seed": cell.seed, "run-folder": str(cell.folder)}
    config = prepare(cell.conf, [f"{key}={value}" for key, value in changes.items()])
    run_in_process(server_app, client_app, config.partition.num_partitions, config.flat())
    return f"{cell.conf} | {cell.skew} | {cell.variant} | {cell.seed}: {cell.accuracy} {time.monotonic() - began:.0f} s"


def tables(cells: list[Cell]) -> str:
    """One markdown table a data set: mean and deviation over seeds of the mean accuracy of the last ten rounds."""
    lines: list[str] = []
    for conf in dict.fromkeys(cell.conf for cell in cells):
        lines += ["", f"### {conf}", "", "| variant | " + " | ".join(SKEWS) + " |", "|---|" + "---|" * len(SKEWS)]
        for variant in VARIANTS:
            row = []
            for skew in SKEWS:
                values = [
                    cell.accuracy["mean-of-last-ten"]
                    for cell in cells
                    if (cell.conf, cell.skew, cell.variant) == (conf, skew, variant) and cell.done
                ]
                row.append(
                    f"{statistics.mean(values):.1f} ± {statistics.stdev(values):.1f}" if len(values) > 1 else "-"
                )
            lines.append(f"| {variant} | " + " | ".join(row) + " |")
    return "\n".join(lines)


def _name(text: str) -> str:
    return "".join(letter if letter.isalnum() or letter == "." else "-" for letter in text).strip("-")


if __name__ == "__main__":
    main()
