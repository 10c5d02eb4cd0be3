"""A report from beginning to end: runs in, index.html and its pictures out."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from pathlib import Path

from fedhpro_flwr.config import ConfigError
from fedhpro_flwr.report.bar_pictures import bytes_picture, class_picture, domain_picture, seconds_picture
from fedhpro_flwr.report.curve_pictures import accuracy_picture, loss_picture
from fedhpro_flwr.report.drawing import Picture
from fedhpro_flwr.report.drift_section import drift_section
from fedhpro_flwr.report.feature_picture import feature_picture
from fedhpro_flwr.report.features import neighbour_embedding, principal_axes, read_features
from fedhpro_flwr.report.groups import Group, group_runs, short_folders
from fedhpro_flwr.report.overview import overview
from fedhpro_flwr.report.page import Section, page
from fedhpro_flwr.report.partition_picture import partition_picture
from fedhpro_flwr.report.runs import Division, Run, find_runs, without_trials
from fedhpro_flwr.runs.summary import judging_data
from fedhpro_flwr.whole_file import write_whole
from fedhpro_flwr.writable import make_folder

PAGE_FILE = "index.html"
MOST_PARTITIONS = 6  # heat maps
FEATURES_TEXT = (
    "Test samples (validation samples of a run with data.validation-share) as the last global model encodes them, for "
    "the first seed of each group with a finished run. "
    "Features and prototypes are scaled to length one, because only directions count in the contrastive terms. "
    "Stars are prototypes: all hyper-prototypes of a class, or its one prototype.",
    "The first picture of a group is the projection on the two principal axes of the samples, the second t-SNE of "
    "samples and prototypes together; there, distances between clusters and their sizes say nothing.",
)


def write_report(
    places: Sequence[Path],
    out: Path,
    *,
    central: bool = False,
    features: bool = True,
    say: Callable[[str], None] = lambda _: None,
) -> Path:
    """Write index.html and the PNG files of its pictures; returns the page's path.

    Args:
        places: run folders, or folders with run folders below them.
        out: the report's folder; made if it does not exist.
        central: train a central model for each seed, for the section on drift.
        features: draw test samples as the models encode them.
        say: told what is being done.

    Raises:
        FileNotFoundError: there is no run in one of the places.
        ConfigError: a run's file cannot be read, no run has completed a round, or `out` cannot be written.
    """
    found = [Run.read(folder) for folder in find_runs(places)]
    runs = without_trials(found, places)
    started = [run for run in runs if run.rounds]
    if not started:
        raise ConfigError(f"no run in {', '.join(map(str, places))} has got through a round yet: {_why(runs[0])}")
    groups, doubles, usual = group_runs(started)
    called = short_folders(runs)
    notes = (
        [f"{_count(trials, 'run')} in which values of --tune were tried: name the folder to see them"]
        if (trials := len(found) - len(runs))
        else []
    )
    notes += [
        f"{called[run.folder]} is not shown: no round is complete{_because(run)}" for run in runs if not run.rounds
    ]
    notes += [
        f"{called[run.folder]} ({group.name}, seed {run.config.seed}) has not finished: {len(run.rounds)} of "
        f"{run.config.rounds} rounds are shown{_because(run)}"
        for group in groups
        for run in group.runs
        if not run.finished
    ]
    notes += [f"{called[run.folder]} is not shown: another run has its settings and its seed" for run in doubles]
    notes += [f"where a name does not say it: {usual}"] if usual else []
    notes += [f"{group.name} is {group.stated}" for group in groups if group.stated]
    make_folder(out, f"--out {out}")
    curves = (accuracy_picture(groups), loss_picture(groups))
    breakdowns = (class_picture(groups), domain_picture(groups))
    costs = (seconds_picture(groups), bytes_picture(groups))
    sections = [
        overview(groups, notes),
        _pictured("accuracy", "Accuracy over the rounds", curves),
        _partitions(groups),
        _pictured("breakdown", "Classes and domains" if breakdowns[1] else "Classes", breakdowns),
        _features(groups, say) if features else None,
        drift_section(groups, out, central=central, say=say),
        _pictured("costs", "Seconds and bytes", costs),
    ]
    shown = [section for section in sections if section is not None]
    for section in shown:
        for picture in section.pictures:
            write_whole(out / f"{picture.name}.png", picture.png)
    experiments = ", ".join(dict.fromkeys(run.config.experiment for run in started))
    write_whole(
        out / PAGE_FILE,
        page(f"{experiments}: {_count(len(groups), 'group')}, {_count(_runs(groups), 'run')}", shown).encode(),
    )
    return out / PAGE_FILE


def _pictured(anchor: str, title: str, pictures: Sequence[Picture | None]) -> Section | None:
    shown = [picture for picture in pictures if picture]
    return Section(anchor, title, pictures=shown) if shown else None


def _partitions(groups: Sequence[Group]) -> Section | None:
    """A heat map of every partition that the groups' first seeds have."""
    whose: dict[Hashable, tuple[Division, list[str]]] = {}
    for group in groups:
        run = group.runs[0]
        if division := run.division:
            drawn = division.counts.tobytes(), tuple(division.class_names), tuple(division.client_domains)
            _, names = whose.setdefault(drawn, (division, []))
            names.append(f"{group.name}, seed {run.config.seed}")
    if not whose:
        return None
    notes = []
    if len(whose) > MOST_PARTITIONS:
        notes = [f"{len(whose) - MOST_PARTITIONS} more partitions are not drawn"]
    pictures = [
        partition_picture(division, f"partition-{number}", _who(names))
        for number, (division, names) in enumerate(list(whose.values())[:MOST_PARTITIONS], start=1)
    ]
    text = ("Other seeds divide the data anew, with the same settings.",) if _runs(groups) > len(groups) else ()
    return Section("partition", "Who has which samples", text, pictures=pictures, notes=notes)


def _who(names: Sequence[str]) -> str:
    return "; ".join(names) if len(names) <= 3 else f"{names[0]} and {len(names) - 1} more groups"


def _features(groups: Sequence[Group], say: Callable[[str], None]) -> Section:
    pictures, notes = [], []
    for number, group in enumerate(groups, start=1):
        run = next((run for run in group.runs if run.finished), group.runs[0])
        say(f"features of {group.name}")
        try:
            features = read_features(run)
        except (ValueError, OSError, ImportError) as error:
            notes.append(f"{group.name}: no picture: {error}")
            continue
        who = f"{group.name}, seed {run.config.seed}"
        for name, plane in (
            ("PCA", principal_axes(features)),
            ("t-SNE", neighbour_embedding(features, run.config.seed)),
        ):
            stars = f" and {len(features.prototypes)} prototypes" if len(features.prototypes) else ", no prototypes"
            caption = f"{name} of {len(features.samples)} {judging_data(run.config).split()[0]} samples{stars}."
            pictures.append(
                feature_picture(
                    features, plane, f"features-{number}-{name.lower()}", f"{group.name}: {name}", f"{who}. {caption}"
                )
            )
    return Section("features", "Features and prototypes", FEATURES_TEXT, pictures=pictures, notes=notes)


def _why(run: Run) -> str:
    return run.failure or f"{run.folder} holds settings alone"


def _because(run: Run) -> str:
    return f" ({run.failure})" if run.failure else ""


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _runs(groups: Sequence[Group]) -> int:
    return sum(len(group.runs) for group in groups)
