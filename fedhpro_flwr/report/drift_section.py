"""The section on semantic drift: prototypes compared with central class means, or without these how far they move."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from fedhpro_flwr.report.central import MOST_PASSES, central_means
from fedhpro_flwr.report.curve_pictures import Curve, curves_picture
from fedhpro_flwr.report.drift import (
    Distance,
    Trace,
    cosine_distance,
    distances_to,
    movement,
    relative_distance,
    structure_distance,
)
from fedhpro_flwr.report.features import with_data_here
from fedhpro_flwr.report.groups import Group
from fedhpro_flwr.report.page import Section
from fedhpro_flwr.report.runs import Run

COSINE, RELATIVE, STRUCTURE = "prototype-cosine", "prototype-relative", "prototype-structure"
DISTANCES: dict[str, tuple[Distance, str, str]] = {
    COSINE: (cosine_distance, "1 - cosine", "1 - cosine, mean over classes"),
    RELATIVE: (
        relative_distance,
        "relative distance",
        "length of the difference over that of the {to}, mean over classes",
    ),
    STRUCTURE: (
        structure_distance,
        "difference of similarities",
        "difference between the cosine similarities of pairs of classes, mean over pairs: unchanged by a rotation",
    ),
}
AGAINST_CENTRAL = (
    "For each seed one network was trained on the data of all clients in one place, from the same initial weights, "
    "with the run's local settings, for as many passes as a client makes in the whole run "
    f"({MOST_PASSES} at most). Its class means are what the prototypes of each round are held against, over the "
    "classes that both know.",
    "Read it with care: two networks that are trained differently have differently rotated feature spaces, even from "
    "one start, so the first two distances contain that rotation and not drift alone. They compare methods on the "
    "same seeds; they do not say how good a prototype is. The third, of the similarities between classes, does not "
    "change with a rotation. Hyper-prototypes are not meant to be class means: they match class gradients.",
)
ALONE = (
    "How far the prototypes moved since the round before (long runs: the n-th before, as they keep every n-th). Small "
    "says that they have settled, not that they are right. For their distance to the class means of a centrally "
    "trained model, the publication's measure of semantic drift, run the report again with --central: it trains one "
    "network a seed.",
)


def drift_section(groups: Sequence[Group], out: Path, *, central: bool, say: Callable[[str], None]) -> Section | None:
    """Pictures of all groups whose runs kept prototypes; None if no run did.

    Args:
        groups: of the page.
        out: the report's folder, where central class means are kept.
        central: whether to train central models.
        say: told what is being done, as it can take minutes.
    """
    traces = {id(run): Trace.read(run.folder) for group in groups for run in group.runs}
    without = [group.name for group in groups if not any(traces[id(run)] for run in group.runs)]
    if len(without) == len(groups):
        return None
    notes = [f"{name}: no prototypes were kept, by a method without any or an earlier version" for name in without]
    measured: dict[str, list[tuple[str, list[Curve]]]] = {name: [] for name in DISTANCES}
    for group in groups:
        curves: dict[str, list[Curve]] = {name: [] for name in DISTANCES}
        for run in group.runs:
            trace = traces[id(run)]
            if trace is None:
                continue
            if central:
                say(f"central class means for {group.name}, seed {run.config.seed}")
            try:
                found = _against_central(run, trace, out) if central else _movement(trace)
            except (ValueError, OSError, ImportError) as error:
                notes.append(f"{group.name}, seed {run.config.seed}: no central class means: {error}")
                continue
            for name, curve in found.items():
                curves[name].append(curve)
        for name, own in curves.items():
            measured[name].append((group.name, own))
    to = "central class mean" if central else "prototype before"
    start = "Distance of the prototypes to the central class means: " if central else "Movement from round to round: "
    pictures = [
        curves_picture(name, measured[name], unit, f"{start}{text.format(to=to)}.")
        for name, (_, unit, text) in DISTANCES.items()
    ]
    title = "Prototypes and central class means" if central else "Movement of the prototypes"
    shown = [picture for picture in pictures if picture]
    if not shown and not central:
        notes.append("no run has kept the prototypes of two rounds")
    return Section("drift", title, AGAINST_CENTRAL if central else ALONE, pictures=shown, notes=notes)


def _against_central(run: Run, trace: Trace, out: Path) -> dict[str, Curve]:
    central = central_means(with_data_here(run.config), out)
    return {
        name: distances_to(trace, central.vectors, central.known, distance)
        for name, (distance, _, _) in DISTANCES.items()
    }


def _movement(trace: Trace) -> dict[str, Curve]:
    return {name: movement(trace, DISTANCES[name][0]) for name in (COSINE, RELATIVE)}
