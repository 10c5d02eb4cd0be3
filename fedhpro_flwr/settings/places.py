"""Settings that say where something lies, or decide no result. All are named here, for all code that uses them.

Two runs are the same wherever their files lie, and a command's relative paths must hold in the apps' directories.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

from fedhpro_flwr.home_folder import expanded
from fedhpro_flwr.settings.flat_keys import Scalar

OF_THE_RUN = ("run-folder", "results-dir")  # where its files go
DATA_FOLDER = "data.root"
FILES = ("data.path", "data.weights", "data.tokenizer")  # compared by name: the folder only says where they lie
WEIGHTS = "model.path"  # compared with its folder: every run's model has the same name
STATE_FOLDER = "clients.state-path"  # where clients keep what does not travel
COMPARED_RUN = "evaluation.alone"  # a run in which each client trained alone, to compare with
MADE_ABSOLUTE = (DATA_FOLDER, *FILES, WEIGHTS, STATE_FOLDER, COMPARED_RUN)  # OF_THE_RUN later, with the folder
UNCOUNTED = (DATA_FOLDER, "data.download")  # two runs that differ in these alone are the same
# No result depends on where a run's files go, which trackers it tells, how long it waits, and for how many nodes.
DECIDES_NOTHING = frozenset({*OF_THE_RUN, "trackers", "clients.num-nodes", "clients.retries", "clients.timeout"})
HASHING = "hashing"  # data.tokenizer names a folder or this
MOST_KEYS = 5  # that differ, in a sentence
DATA_PATH = "data-path"  # in the config of a node: where the data of its client lies


def without_places(settings: Mapping[str, Scalar]) -> dict[str, Scalar]:
    """The settings that say whether two runs are the same, on whatever machines: FILES become their bare names."""
    return {
        key: Path(str(value)).name if key in FILES else value for key, value in settings.items() if key not in UNCOUNTED
    }


def differing(there: Mapping[str, Scalar], here: Mapping[str, Scalar], ignored: Collection[str] = ()) -> str:
    """`key = there (here ...), ...` for the settings that differ; "" if none do.

    Args:
        there: flat settings of an earlier run; every key of `here` is among them.
        here: flat settings of the present run.
        ignored: keys that may differ.
    """
    was, now = without_places(there), without_places(here)
    keys = [key for key in now if key not in ignored and was[key] != now[key]]
    named = ", ".join(f"{key} = {was[key]!r} (here {now[key]!r})" for key in keys[:MOST_KEYS])
    return named + (f" and {len(keys) - MOST_KEYS} more" if len(keys) > MOST_KEYS else "")


def made_absolute(settings: Mapping[str, Scalar]) -> dict[str, Scalar]:
    """The same settings with absolute paths, which hold in every directory."""
    return {
        key: str(expanded(str(value)).resolve())
        if key in MADE_ABSOLUTE and value and (key, value) != ("data.tokenizer", HASHING)
        else value
        for key, value in settings.items()
    }
