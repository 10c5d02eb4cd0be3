"""The tables of docs/results.md and docs/scenarios.md: the runs that grids.py lists, with three seeds each.

    python benchmarks/results.py                    # run what docs/results.json lacks, two at a time, write the tables
    python benchmarks/results.py --pages scenarios  # the same for one page
    python benchmarks/results.py --jobs 0           # only write the tables
    python benchmarks/results.py --check 20         # run 20 of the cells again and say which come out otherwise

A cell is one run, `fedhpro run CONF --engine in-process --set ...` with the keys that grids.py gives. It has one
thread, so its numbers do not depend on how many run at a time. They do depend on the kind of processor, and rows of a
table must be of one kind, so cells of another kind than this machine's are run again. To measure everything again,
delete docs/results.json.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import platform
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from grids import PAGES, SEEDS, Cell, Table, cells  # noqa: E402  after the path is set

STORE = ROOT / "docs" / "results.json"
BEGIN, END = "<!-- tables: made by benchmarks/results.py -->", "<!-- end of tables -->"
Found = dict[str, Any]  # a run's accuracies in percent, those of each client, and seconds
ABOUT = ("processor", "seconds")  # keys that say how a cell was measured
TITLES = {
    "mean-of-last-ten": "server's test data, mean of last ten rounds",
    "last": "server's test data, last round",
    "best": "server's test data, best round",
    "clients": "clients' own test data, mean over clients",
    "clients-deviation": "clients' own test data, deviation over clients",
    "worst-client": "clients' own test data, worst client",
    "worse-than-alone": "share of clients that do worse than when each trains alone, percent",
}


def main() -> None:
    """Run the missing cells, then write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time; 0 only writes the tables")
    parser.add_argument("--pages", default=",".join(PAGES))
    parser.add_argument("--check", type=int, metavar="N", help="run N cells again and change nothing")
    options = parser.parse_args()
    pages = {name: PAGES[name] for name in options.pages.split(",")}
    results = read()
    wanted = {cell.name: cell for tables in pages.values() for table in tables for cell in cells(table)}
    here = processor()
    if options.check:
        known = [cell for name, cell in wanted.items() if name in results]
        check(known[:: max(1, len(known) // options.check)][: options.check], results, max(1, options.jobs))
        return
    missing = [cell for name, cell in wanted.items() if results.get(name, {}).get("processor") != here]
    missing = missing if options.jobs else []
    missing.sort(key=lambda cell: cell.seed)  # whole tables of one seed first
    print(f"{len(wanted)} cells, {len(missing)} to run on {here}", flush=True)
    if missing:
        with multiprocessing.get_context("spawn").Pool(options.jobs) as pool:
            for number, (name, found) in enumerate(pool.imap_unordered(run, missing), 1):
                results = read() | {name: found}  # read again: another page may be running beside this one
                STORE.write_text(json.dumps(dict(sorted(results.items())), indent=0) + "\n", encoding="utf-8")
                print(f"{number}/{len(missing)} {name}: {found}", flush=True)
    if len(kinds := {results[name]["processor"] for name in wanted if name in results}) > 1:
        sys.exit(f"{STORE} has cells of {' and '.join(sorted(kinds))}: no table is written; leave out --jobs 0")
    for name, tables in pages.items():
        page = ROOT / "docs" / f"{name}.md"
        before, _, rest = page.read_text(encoding="utf-8").partition(BEGIN)
        shown = "\n".join(show(table, results) for table in tables)
        page.write_text(f"{before}{BEGIN}\n{shown}\n{END}{rest.partition(END)[2]}", encoding="utf-8")


def check(chosen: list[Cell], results: dict[str, Found], jobs: int) -> None:
    """Run cells that are there again, as the settings and the code are now, and print the numbers that differ."""
    same = 0
    with multiprocessing.get_context("spawn").Pool(jobs) as pool:
        for name, found in pool.imap_unordered(run, chosen):
            was = results[name]
            other = {
                key: (was.get(key), value) for key, value in found.items() if key not in ABOUT and was.get(key) != value
            }
            same += not other
            print(f"{name}: {other or 'the same'}", flush=True)
    print(f"{same} of {len(chosen)} cells are the same on {processor()}")


def read() -> dict[str, Found]:
    """The cells that have been run."""
    return dict(json.loads(STORE.read_text(encoding="utf-8"))) if STORE.exists() else {}


def processor() -> str:
    """What decides which kernels torch takes, and with them the last bits of a run."""
    info = Path("/proc/cpuinfo")
    lines = [line.partition(":") for line in info.read_text(encoding="utf-8").splitlines()] if info.exists() else []
    said = {key.strip(): value.strip() for key, _, value in reversed(lines)}  # of the first core
    named = " ".join(said.get(key, "") for key in ("vendor_id", "cpu family", "model"))
    return f"{named.strip() or platform.machine()} {torch.backends.cpu.get_cpu_capability()}"


def run(cell: Cell) -> tuple[str, Found]:
    """Run one cell in this process."""
    from logging import ERROR, getLogger

    from client_app.app import app as client_app
    from fedhpro_flwr.launch.in_process import run_in_process
    from fedhpro_flwr.settings.from_command_line import prepare
    from server_app.app import app as server_app

    getLogger("flwr").setLevel(ERROR)
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        changes = {**cell.settings, "seed": cell.seed, "run-folder": folder}
        config = prepare(cell.conf, [f"{key}={value}" for key, value in changes.items()])
        run_in_process(server_app, client_app, config.partition.num_partitions, config.flat())
        said = json.loads((Path(folder) / "summary.json").read_text(encoding="utf-8"))
    return cell.name, measured(said) | {"processor": processor(), "seconds": round(time.monotonic() - began, 1)}


def measured(summary: dict[str, Any]) -> Found:
    """What the tables show of a run."""
    found: Found = {}
    if summary["accuracy-of"] != "mean over clients":  # that is no measure of a global model
        found = {name: _percent(summary["accuracy"][name]) for name in ("mean-of-last-ten", "last", "best")}
    domains = (summary["last-round"] or {}).get("domain_accuracy") or {}
    found |= {f"domain {name}": _percent(value) for name, value in domains.items()}
    if summary["clients-tested"]:
        names = {"accuracy": "clients", "deviation": "clients-deviation", "worst": "worst-client"}
        found |= {name: _percent(summary["clients-tested"][key]) for key, name in names.items()}
        found["by-client"] = {
            str(client["partition-id"]): _percent(client["test-correct"] / client["test-examples"])
            for client in summary["clients"]
            if client["test-examples"]
        }
    return found


def show(table: Table, results: dict[str, Found]) -> str:
    """For each measure: mean and deviation over the seeds, and how many seeds where some are missing."""
    by_place: dict[tuple[str, str], list[Cell]] = {}
    for cell in cells(table):
        by_place.setdefault((cell.row, cell.column), []).append(cell)
    lines: list[str] = []
    for measure in table.measures:
        lines += ["", f"### {table.title}: {TITLES[measure]}", ""]
        lines += ["| | " + " | ".join(table.columns) + " |", "|---|" + "---:|" * len(table.columns)]
        for row in table.rows:
            values = [
                [value(cell, measure, results) for cell in by_place[row, column] if cell.name in results]
                for column in table.columns
            ]
            lines.append(f"| {row} | " + " | ".join(_mean([v for v in of if v is not None]) for of in values) + " |")
    for column in table.columns if table.by_domain else ():
        lines += by_domain(table, column, by_place, results)
    return "\n".join(lines)


def by_domain(
    table: Table, column: str, by_place: dict[tuple[str, str], list[Cell]], results: dict[str, Found]
) -> list[str]:
    """A table of the domains of a column, in the last round, where it has any."""
    found = {row: [results[c.name] for c in by_place[row, column] if c.name in results] for row in table.rows}
    domains = dict.fromkeys(key for runs in found.values() for run in runs for key in run if key.startswith("domain "))
    if not domains:
        return []
    lines = ["", f"### {column}: server's test data by domain, last round", ""]
    lines += [
        "| | " + " | ".join(key.removeprefix("domain ") for key in domains) + " |",
        "|---|" + "---:|" * len(domains),
    ]
    for row, runs in found.items():
        if any(key in run for run in runs for key in domains):
            lines.append(f"| {row} | " + " | ".join(_mean([run[key] for run in runs]) for key in domains) + " |")
    return lines


def value(cell: Cell, measure: str, results: dict[str, Found]) -> float | None:
    """One number of a run; None where the run has no such measure."""
    if measure != "worse-than-alone":
        number = results[cell.name].get(measure)
        return None if number is None else float(number)
    alone = results.get(f"{cell.conf} | {cell.column} | each client alone | {cell.seed}", {}).get("by-client", {})
    own = results[cell.name].get("by-client", {})
    if cell.row == "each client alone" or not alone.keys() & own.keys():
        return None
    return 100 * statistics.fmean(own[client] < alone[client] for client in alone.keys() & own.keys())


def _percent(share: float | None) -> float | None:
    return None if share is None else round(100 * share, 3)


def _mean(values: list[float]) -> str:
    if not values:
        return "–"
    spread = f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else ""
    note = "" if len(values) == len(SEEDS) else f" ({len(values)} of {len(SEEDS)} seeds)"
    return f"{statistics.mean(values):.1f}{spread}{note}"


if __name__ == "__main__":
    main()
