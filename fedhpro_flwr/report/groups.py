"""Runs that differ in nothing but the seed are one group, named by what sets it apart from the others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from os.path import commonpath
from pathlib import Path
from typing import NamedTuple

from fedhpro_flwr.config import RunConfig, Scalar
from fedhpro_flwr.report.group_names import LONGEST_NAME, group_names
from fedhpro_flwr.report.runs import Run
from fedhpro_flwr.settings.places import COMPARED_RUN, DECIDES_NOTHING, STATE_FOLDER, without_places
from fedhpro_flwr.settings.unread import is_read

# The run compared with and how often a checkpoint was written say nothing about how a run was trained.
UNCOMPARED = DECIDES_NOTHING | {"seed", STATE_FOLDER, COMPARED_RUN, "checkpoint.every"}


@dataclass(frozen=True)
class Group:
    """Runs with equal settings, one a seed, in the order of their seeds."""

    name: str
    runs: Sequence[Run]
    stated: str = ""  # what sets it apart, where that is too long for a name

    @property
    def judged(self) -> Sequence[Run]:
        """Those whose last accuracies count: the finished ones, or all if none has finished."""
        return [run for run in self.runs if run.finished] or self.runs


class Groups(NamedTuple):
    """The runs of a report."""

    shown: list[Group]
    left_out: list[Run]
    usual: str  # settings that most groups have and no name says; "" if names say all that differs


def compared(config: RunConfig) -> dict[str, Scalar]:
    """The settings that must be equal within a group; of a data file only its name counts."""
    return {key: value for key, value in without_places(config.flat()).items() if key not in UNCOMPARED}


def read_of(config: RunConfig) -> dict[str, Scalar | None]:
    """The compared settings that the run reads, and None for the others: FedAvg is the same with any temperature."""
    return {key: value if is_read(config, key) else None for key, value in compared(config).items()}


def group_runs(runs: Sequence[Run]) -> Groups:
    """Groups in the order of their first runs, and the runs left out of them.

    A group whose name would still be too long is named by its method and the folder of its first run.
    Runs of other samples are another group, though their settings are equal: a file has changed in its place.
    Of several runs with the same settings and seed only one is shown, as the others are no further evidence: a finished
    one rather than an unfinished one, else the one whose folder's name sorts last (names begin with the time).
    """
    shown: dict[tuple[tuple[tuple[str, Scalar | None], ...], str], dict[int, Run]] = {}
    left_out: list[Run] = []
    for run in runs:
        content = run.division.content if run.division else ""
        by_seed = shown.setdefault((tuple(read_of(run.config).items()), content), {})
        other = by_seed.get(run.config.seed)
        if other is not None:
            run, worse = sorted((run, other), key=lambda each: (each.finished, str(each.folder)), reverse=True)
            left_out.append(worse)
        by_seed[run.config.seed] = run
    names, usual = group_names([dict(settings) for settings, _ in shown])
    names = [
        name if names.count(name) == 1 else f"{name}, samples {content or 'unknown'}"
        for name, (_, content) in zip(names, shown, strict=True)
    ]
    called, groups = short_folders(runs), []
    for name, by_seed in zip(names, shown.values(), strict=True):
        own = [by_seed[seed] for seed in sorted(by_seed)]
        if len(name) <= LONGEST_NAME:
            groups.append(Group(name, own))
        else:
            groups.append(Group(f"{own[0].config.method.name}, {called[own[0].folder]}", own, name))
    return Groups(groups, left_out, usual)


def short_folders(runs: Sequence[Run]) -> dict[Path, Path]:
    """Each run's folder without what all have in common; its name alone is "seed-0" for many runs of a grid."""
    above = commonpath([run.folder.parent for run in runs])
    return {run.folder: run.folder.relative_to(above) for run in runs}
