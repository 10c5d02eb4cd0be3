"""All benchmarks in one table. Run `make bench`, or

    python benchmarks/run.py                 # about nine minutes on a quiet machine with two cores
    python benchmarks/run.py --quick         # arithmetic and local training alone: about one minute
    python benchmarks/run.py --only engine   # one section; may be repeated

Nothing here is a test, as numbers depend on the machine and on what else it does. They also go to
benchmarks/out/bench.json.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

import torch  # noqa: E402
from engine import overhead_rows, quick_start_rows  # noqa: E402
from local_training import cost_rows, training_rows  # noqa: E402
from measure import Row, machine  # noqa: E402
from overhead import overhead_rows as by_size_rows  # noqa: E402
from rich.console import Console  # noqa: E402
from rich.table import Table  # noqa: E402
from scale import scale_rows  # noqa: E402
from server_update import calibration_rows, update_rows  # noqa: E402

OUT = HERE / "out" / "bench.json"
SECTIONS: dict[str, Callable[[], Iterator[Row]]] = {
    "update": update_rows,
    "calibration": calibration_rows,
    "training": training_rows,
    "cost": cost_rows,
    "engine": overhead_rows,
    "scale": scale_rows,
    "overhead": by_size_rows,
    "quick-start": quick_start_rows,
}
QUICK = ("update", "calibration", "training")


def main() -> None:
    """Run the sections that are asked for, then show and write what was measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help=f"only {', '.join(QUICK)}")
    parser.add_argument("--only", action="append", choices=tuple(SECTIONS), metavar="NAME", help=", ".join(SECTIONS))
    options = parser.parse_args()
    torch.set_num_threads(1)  # as the apps do; several threads spin on small operations when a machine is shared
    console, facts, began = Console(highlight=False), machine(), time.monotonic()
    rows: list[Row] = []
    for name in options.only or (QUICK if options.quick else SECTIONS):
        console.print(f"{name} ...", style="dim")
        rows += SECTIONS[name]()
    facts |= {"load average at the end": round(os.getloadavg()[0], 2), "seconds": round(time.monotonic() - began, 1)}
    wide = console if console.is_terminal and console.width >= 120 else Console(highlight=False, width=160)
    wide.print(table(rows))
    wide.print(", ".join(f"{key} {value}" for key, value in facts.items()), soft_wrap=True)
    OUT.parent.mkdir(exist_ok=True)
    written = {"machine": facts, "rows": [asdict(row) | {"met": row.verdict} for row in rows]}
    OUT.write_text(json.dumps(written, indent=1) + "\n")
    wide.print(f"written to {OUT}", soft_wrap=True)


def table(rows: list[Row]) -> Table:
    """Wall clock, CPU time, target and verdict, a section after the other."""
    shown = Table(title="benchmarks (best of several; one thread)", title_justify="left", show_lines=False)
    for heading in ("what", "measured", "CPU time", "target", "met", "remarks"):
        shown.add_column(heading, justify="right" if heading in ("measured", "CPU time", "target") else "left")
    section = ""
    for row in rows:
        if row.section != section:
            section = row.section
            shown.add_section()
            shown.add_row(f"[bold]{section}[/]")
        bound = "" if row.target is None else f"{'>=' if row.more_is_better else '<='} {number(row.target)}"
        cpu = "" if row.cpu is None else number(row.cpu)
        style = {"no": "red", "by CPU time": "yellow"}.get(row.verdict, "green")
        met = f"[{style}]{row.verdict}[/]" if row.verdict else ""
        shown.add_row(row.what, f"{number(row.value)} {row.unit}".strip(), cpu, bound, met, row.note)
    return shown


def number(value: float) -> str:
    """Three digits, without an exponent where none is needed."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


if __name__ == "__main__":
    main()
