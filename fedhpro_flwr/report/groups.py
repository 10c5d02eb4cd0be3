"""Runs that differ in nothing but the seed are one group, named by what sets it apart from the others."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from os.path import commonpath
from pathlib import Path

from fedhpro_flwr.config import RunConfig, Scalar
from fedhpro_flwr.report.runs import Run
from fedhpro_flwr.settings.places import COMPARED_RUN, DECIDES_NOTHING, STATE_FOLDER, without_places
from fedhpro_flwr.settings.presets import PRESETS
from fedhpro_flwr.settings.unread import is_read

# The run compared with and how often a checkpoint was written say nothing about how a run was trained.
UNCOMPARED = DECIDES_NOTHING | {"seed", STATE_FOLDER, COMPARED_RUN, "checkpoint.every"}
METHOD, PRESET, EXPERIMENT = "method.name", "preset", "experiment"
Read = Mapping[str, Scalar | None]  # a run's settings; None for one that it does not read
LONGEST_NAME = 240  # characters; pictures repeat the names, and with longer ones would hold little else


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


def compared(config: RunConfig) -> dict[str, Scalar]:
    """The settings that must be equal within a group; of a data file only its name counts."""
    return {key: value for key, value in without_places(config.flat()).items() if key not in UNCOMPARED}


def read_of(config: RunConfig) -> dict[str, Scalar | None]:
    """The compared settings that the run reads, and None for the others: FedAvg is the same with any temperature."""
    return {key: value if is_read(config, key) else None for key, value in compared(config).items()}


def group_runs(runs: Sequence[Run]) -> tuple[list[Group], list[Run]]:
    """Groups in the order of their first runs, and the runs left out of them.

    A group whose name would be longer than LONGEST_NAME is named by its method and the folder of its first run.
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
    names = group_names([dict(settings) for settings, _ in shown])
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
    return groups, left_out


def short_folders(runs: Sequence[Run]) -> dict[Path, Path]:
    """Each run's folder without what all have in common; its name alone is "seed-0" for many runs of a grid."""
    above = commonpath([run.folder.parent for run in runs])
    return {run.folder: run.folder.relative_to(above) for run in runs}


def group_names(settings: Sequence[Read]) -> list[str]:
    """A name for each group: its method, then `key = value` of what it reads and other groups read differently.

    A setting that follows from a preset or an experiment, whose name is already there, is not repeated.
    """
    differing = [key for key in settings[0] if len(_values(key, settings)) > 1]
    stated = [key for key in (EXPERIMENT, PRESET) if key in differing]
    stated += [key for key in differing if key not in (METHOD, *stated) and not _follows(key, settings, stated)]
    return [
        ", ".join(
            [str(group[METHOD]), *(f"{key} = {_text(value)}" for key in stated if (value := group[key]) is not None)]
        )
        for group in settings
    ]


def _values(key: str, settings: Iterable[Read]) -> set[Scalar]:
    """What the groups that read the setting have."""
    return {value for group in settings if (value := group[key]) is not None}


def _follows(key: str, settings: Sequence[Read], stated: Sequence[str]) -> bool:
    """Whether the value of `key` follows from the experiment or preset, if the name says these."""
    readers = [group for group in settings if group[key] is not None]
    if PRESET in stated and all(PRESETS.get(str(group[PRESET]), {}).get(key) == group[key] for group in readers):
        return True
    if EXPERIMENT not in stated:
        return False
    by_experiment = (
        _values(key, [group for group in readers if group[EXPERIMENT] == each]) for each in _values(EXPERIMENT, readers)
    )
    return all(len(values) == 1 for values in by_experiment)


def _text(value: Scalar) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value) or '""'
