"""The tables of docs/results.md: every variant of the method on every data set and kind of skew, three seeds each.

    python benchmarks/results.py            # run what docs/results.json lacks, two at a time, and write the tables anew
    python benchmarks/results.py --jobs 0   # only write the tables

A cell is the run `fedhpro run CONF --engine in-process --set ...` with the keys below. Each is one thread, so the
numbers do not depend on how many run at a time. Delete docs/results.json to measure everything again.
"""

from __future__ import annotations

import argparse
import itertools
import json
import multiprocessing
import statistics
import sys
import tempfile
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


STORE = ROOT / "docs" / "results.json"
PAGE = ROOT / "docs" / "results.md"
BEGIN, END = "<!-- tables: made by benchmarks/results.py -->", "<!-- end of tables -->"
MEASURES = ("mean-of-last-ten", "last", "best")
Results = dict[str, dict[str, float]]  # name of a cell -> its accuracies in percent, and seconds


@dataclass(frozen=True)
class Cell:
    """One run."""

    conf: str
    skew: str
    variant: str
    seed: int

    @property
    def name(self) -> str:
        """As the key in docs/results.json."""
        return f"{self.conf} | {self.skew} | {self.variant} | {self.seed}"


def main() -> None:
    """Run the missing cells, then write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time; 0 only writes the tables")
    parser.add_argument("--confs", default=",".join(CONFS))
    options = parser.parse_args()
    confs = options.confs.split(",")
    cells = [Cell(*each) for each in itertools.product(confs, SKEWS, VARIANTS, SEEDS)]
    cells.sort(key=lambda cell: (confs.index(cell.conf), cell.seed))  # whole tables of one seed first
    results = read()
    missing = [cell for cell in cells if cell.name not in results] if options.jobs else []
    print(f"{len(cells)} cells, {len(missing)} to run", flush=True)
    if missing:
        with multiprocessing.get_context("spawn").Pool(options.jobs) as pool:
            for number, (cell, found) in enumerate(pool.imap_unordered(run, missing), 1):
                results[cell.name] = found
                STORE.write_text(json.dumps(dict(sorted(results.items())), indent=0) + "\n", encoding="utf-8")
                print(f"{number}/{len(missing)} {cell.name}: {found}", flush=True)
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    PAGE.write_text(f"{before}{BEGIN}\n{tables(results)}\n{END}{rest.partition(END)[2]}", encoding="utf-8")


def read() -> Results:
    """The cells that have been run."""
    return dict(json.loads(STORE.read_text(encoding="utf-8"))) if STORE.exists() else {}


def run(cell: Cell) -> tuple[Cell, dict[str, float]]:
    """Run one cell in this process."""
    from logging import ERROR, getLogger

    from client_app.app import app as client_app
    from fedhpro_flwr.cli import prepare
    from fedhpro_flwr.in_process import run_in_process
    from server_app.app import app as server_app

    getLogger("flwr").setLevel(ERROR)
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        changes = {**SKEWS[cell.skew], **VARIANTS[cell.variant], "seed": cell.seed, "run-folder": folder}
        config = prepare(cell.conf, [f"{key}={value}" for key, value in changes.items()])
        run_in_process(server_app, client_app, config.partition.num_partitions, config.flat())
        accuracy = json.loads((Path(folder) / "summary.json").read_text(encoding="utf-8"))["accuracy"]
    found = {measure: round(100 * accuracy[measure], 3) for measure in MEASURES}
    return cell, found | {"seconds": round(time.monotonic() - began, 1)}


def tables(results: Results) -> str:
    """For each data set and measure: mean and deviation over the seeds, and how many seeds where some are missing."""
    lines: list[str] = []
    for conf, measure in itertools.product(CONFS, MEASURES):
        lines += ["", f"### {conf}: {measure.replace('-', ' ')}", ""]
        lines += ["| variant | " + " | ".join(SKEWS) + " |", "|---|" + "---:|" * len(SKEWS)]
        for variant in VARIANTS:
            row = []
            for skew in SKEWS:
                names = [Cell(conf, skew, variant, seed).name for seed in SEEDS]
                row.append(_mean([results[name][measure] for name in names if name in results]))
            lines.append(f"| {variant} | " + " | ".join(row) + " |")
    return "\n".join(lines)


def _mean(values: list[float]) -> str:
    if not values:
        return "–"
    spread = f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else ""
    note = "" if len(values) == len(SEEDS) else f" ({len(values)} of {len(SEEDS)} seeds)"
    return f"{statistics.mean(values):.1f}{spread}{note}"


if __name__ == "__main__":
    main()
