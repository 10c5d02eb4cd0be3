"""What FedHPro costs over FedAvg with many classes and many clients: the tables of docs/overhead.md.

    python benchmarks/overhead.py                 # measure, print, write the tables; three minutes
    python benchmarks/overhead.py --tables-only   # write them from what was measured last

What was measured also goes to benchmarks/out/overhead.json. Nothing here is a test.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

import torch  # noqa: E402
from measure import MEGABYTE, Row, machine  # noqa: E402
from round_costs import (  # noqa: E402
    CALIBRATION,
    CHECK,
    CLASS_GRADIENT,
    CLASS_MEANS,
    CONTROL,
    LINEAR,
    LOCAL,
    LOSSES,
    MARGIN,
    MATCHING,
    MODELS,
    Cost,
    RoundCosts,
)
from round_phases import Measured  # noqa: E402
from thousand_replies import CLASSES as HELD_CLASSES  # noqa: E402
from thousand_replies import Held, thousand_replies  # noqa: E402

from fedhpro_flwr.settings.presets import PRESETS  # noqa: E402

OVERHEAD = "overhead with classes and clients"
CLASSES, CLIENTS = (10, 100, 200, 397, 1000), (10, 100, 1000)
FEDAVG = "FedAvg"
METHODS = {FEDAVG: {"method.name": "fedavg"}} | {name: {"preset": name} for name in PRESETS}
PAGE, STORE = HERE.parent / "docs" / "overhead.md", HERE / "out" / "overhead.json"
BEGIN, END = "<!-- tables: made by benchmarks/overhead.py -->", "<!-- end of tables -->"
CLIENT_PHASES = (LOCAL, CLASS_GRADIENT, LINEAR, MARGIN, LOSSES, CONTROL)
REPLY_PHASES, ONCE_PHASES = (CHECK, MODELS, CLASS_MEANS, CONTROL), (MATCHING, CALIBRATION)

Costs = Mapping[int, Mapping[str, RoundCosts]]  # by C and method
Line = tuple[str, Mapping[str, float | None]]  # what a line is about, and its number for each method
Value = Callable[[Cost], float]


def main() -> None:
    """Measure, then print and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables-only", action="store_true", help="write the tables from what was measured last")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if not options.tables_only:
        facts, began = machine(), time.monotonic()
        measured = dict(measure(CLASSES))
        reply = sum(measured[HELD_CLASSES]["paper"].up.values())
        needed = thousand_replies(METHODS["paper"], reply)
        facts["seconds"] = round(time.monotonic() - began)
        write(measured, needed, facts)
    costs, held, known = read()
    shown = "\n".join(
        [f"Measured {', '.join(f'{key} {value}' for key, value in known.items())}.", *tables(costs, held)]
    )
    print(shown)
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    PAGE.write_text(f"{before}{BEGIN}\n\n{shown}\n\n{END}{rest.partition(END)[2]}", encoding="utf-8")


def measure(classes: Sequence[int]) -> Iterator[tuple[int, dict[str, RoundCosts]]]:
    """Every method at every C; the training of the network itself is the same for all, and measured once a C."""
    for num_classes in classes:
        found: dict[str, RoundCosts] = {}
        for name, settings in METHODS.items():
            local = found[FEDAVG].client[LOCAL] if found else None
            found[name] = Measured(settings, num_classes).costs(local)
            print(f"C = {num_classes}, {name} measured", file=sys.stderr, flush=True)
        yield num_classes, found


def overhead_rows() -> Iterator[Row]:
    """For `run.py`: a visit, the server's part of a round of a hundred clients, and a reply's bytes, by C."""
    for num_classes, found in measure(CLASSES):
        for name, costs in found.items():
            visit, server = costs.visit().seconds, costs.server(100).seconds
            what, note = f"C = {num_classes}, {name}", "CPU time, scaled from parts; see docs/overhead.md"
            share = visit / found[FEDAVG].visit().seconds - 1
            yield Row(OVERHEAD, f"{what}: a visit", visit, "s", visit, note=f"{share:+.1%}; {note}")
            yield Row(OVERHEAD, f"{what}: server, 100 clients", server, "s", server, note=note)
            yield Row(OVERHEAD, f"{what}: a reply", sum(costs.up.values()) / MEGABYTE, "MB")


def tables(costs: Costs, held: Held | None) -> Iterator[str]:
    """All tables, in markdown."""
    pairs = [(c, n) for c in costs for n in CLIENTS]
    yield table("Bytes of one client, MB", sent(costs))
    yield table("Seconds of a visit of a client", phases(costs, lambda cost: cost.seconds, client=True))
    yield table("GFLOP of a visit of a client", phases(costs, lambda cost: cost.flops / 1e9, client=True))
    yield table("Seconds of the server, by phase", phases(costs, lambda cost: cost.seconds, client=False))
    yield table("GFLOP of the server, by phase", phases(costs, lambda cost: cost.flops / 1e9, client=False))
    yield table(
        "Seconds of the server, a round",
        [(f"C = {c}, N = {n}", {m: k.server(n).seconds for m, k in costs[c].items()}) for c, n in pairs],
    )
    yield table(
        "Seconds of a whole round: all clients, summed, and the server",
        [
            (f"C = {c}, N = {n}", {m: n * k.visit().seconds + k.server(n).seconds for m, k in costs[c].items()})
            for c, n in pairs
        ],
    )
    yield table(
        "Memory of a round's replies on the server, GB",
        [(f"C = {c}, N = {n}", {m: n * sum(k.up.values()) / 1e9 for m, k in costs[c].items()}) for c, n in pairs],
    )
    yield thousand(costs, held)


def sent(costs: Costs) -> Iterator[Line]:
    """Down and up, and what is not the model."""
    for c, methods in costs.items():
        for way in ("down", "up"):
            yield f"C = {c}: {way}", {m: sum(getattr(k, way).values()) / MEGABYTE for m, k in methods.items()}


def phases(costs: Costs, value: Value, *, client: bool) -> Iterator[Line]:
    """Phase by phase, of a client or of the server; a client's with their sum."""
    for c, methods in costs.items():
        listed = CLIENT_PHASES if client else (*REPLY_PHASES, *ONCE_PHASES)
        for phase in listed:
            found = {m: (k.client if client else {**k.each_reply, **k.once}).get(phase) for m, k in methods.items()}
            if phase in (CHECK, CONTROL) and not any(value(cost) for cost in found.values() if cost):
                continue  # no FLOPs are counted there
            each = ", each reply" if not client and phase in REPLY_PHASES and phase != CHECK else ""
            yield f"C = {c}: {phase}{each}", {m: value(cost) if cost else None for m, cost in found.items()}
        if client:
            yield f"**C = {c}: visit**", {m: value(k.visit()) for m, k in methods.items()}


def table(title: str, lines: Iterable[Line]) -> str:
    """A column for FedAvg, and for each preset its number and how much more than FedAvg's that is."""
    presets = [name for name in METHODS if name != FEDAVG]
    rows = [f"\n### {title}\n", f"| | {FEDAVG} | " + " | ".join(f"`{name}` | over {FEDAVG}" for name in presets) + " |"]
    rows.append("|---|---:|" + "---:|---:|" * len(presets))
    for what, numbers in lines:
        base = numbers[FEDAVG]
        cells = [number(base)]
        for name in presets:
            here = numbers[name]
            cells += [number(here), percent(here, base)]
        rows.append(f"| {what} | " + " | ".join(cells) + " |")
    return "\n".join(rows)


def thousand(costs: Costs, held: Held | None) -> str:
    """The case of a thousand replies that is run, beside what the parts say."""
    title = f"\n### A thousand replies, run: `paper`, C = {HELD_CLASSES}\n"
    if held is None:
        return f"{title}\nNot run: the machine has too little memory to spare."
    parts = costs[HELD_CLASSES]["paper"].server(held.clients).seconds
    lines = {
        "replies, tensors": f"{held.reply_bytes / 1e9:.2f} GB",
        "memory of the process when all have come": f"{held.before / 1e9:.2f} GB",
        "its peak in `aggregate_train`": f"{held.peak / 1e9:.2f} GB",
        "CPU time of `aggregate_train`": f"{held.seconds:.1f} s, of which the operating system {held.of_system:.1f} s",
        "the same, scaled from the parts above": f"{parts:.1f} s",
    }
    return "\n".join([title, "| | |", "|---|---:|", *(f"| {what} | {said} |" for what, said in lines.items())])


def number(value: float | None) -> str:
    """Three digits, fewer of what is tiny."""
    if value is None:
        return "–"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}" if abs(value) >= 1e-3 else f"{value:.5f}".rstrip("0").rstrip(".")


def percent(value: float | None, base: float | None) -> str:
    """How much more than the base."""
    if value is None or not base:
        return "–"
    more = 100 * (value / base - 1)
    return f"{more:+,.0f} %" if abs(more) >= 100 else f"{more:+.2g} %" if abs(more) >= 0.05 else "0 %"


def write(costs: Costs, held: Held | None, facts: Mapping[str, object]) -> None:
    """Keep what was measured."""
    STORE.parent.mkdir(exist_ok=True)
    found = {str(c): {m: asdict(k) for m, k in methods.items()} for c, methods in costs.items()}
    kept = {"machine": facts, "costs": found, "held": held and asdict(held)}
    STORE.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")


def read() -> tuple[Costs, Held | None, dict[str, Any]]:
    """The inverse of `write`."""
    if not STORE.exists():
        sys.exit(f"{STORE} does not exist: run without --tables-only first")
    kept = json.loads(STORE.read_text(encoding="utf-8"))
    costs = {int(c): {m: _costs(k) for m, k in methods.items()} for c, methods in kept["costs"].items()}
    return costs, kept["held"] and Held(**kept["held"]), kept["machine"]


def _costs(kept: Mapping[str, Any]) -> RoundCosts:
    parts = [{phase: Cost(**cost) for phase, cost in kept[part].items()} for part in ("client", "each_reply", "once")]
    return RoundCosts(parts[0], parts[1], parts[2], kept["down"], kept["up"])


if __name__ == "__main__":
    main()
