"""Settings that say where something lies, or decide no result: each is named here, whoever compares or moves them.

Two runs are the same wherever their files lie, and a command's relative paths must hold in the apps' directories.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from fedhpro_flwr.settings.flat_keys import Scalar

OF_THE_RUN = ("run-folder", "results-dir")  # where its files go
DATA_FOLDER = "data.root"
FILES = ("data.path", "data.weights", "data.tokenizer")  # the name says which one, the folder only where it lies
WEIGHTS = "model.path"  # every run's model has the same name, so the folder says which
STATE_FOLDER = "clients.state-path"  # where clients keep what does not travel
COMPARED_RUN = "evaluation.alone"  # the run of each client alone, which it is held against
MADE_ABSOLUTE = (DATA_FOLDER, *FILES, WEIGHTS, STATE_FOLDER, COMPARED_RUN)  # OF_THE_RUN are when its folder is made
UNCOUNTED = (DATA_FOLDER, "data.download")  # two runs that differ in these alone are the same
# No result depends on where a run's own files lie, whom the server tells, how long it waits, and for how many nodes.
DECIDES_NOTHING = frozenset({*OF_THE_RUN, "trackers", "clients.num-nodes", "clients.retries", "clients.timeout"})
HASHING = "hashing"  # data.tokenizer names a folder or this


def without_places(settings: Mapping[str, Scalar]) -> dict[str, Scalar]:
    """Settings as far as they decide a result, on whatever machine: of a file its name counts, not where it lies."""
    return {
        key: Path(str(value)).name if key in FILES else value for key, value in settings.items() if key not in UNCOUNTED
    }


def made_absolute(settings: Mapping[str, Scalar]) -> dict[str, Scalar]:
    """The same settings, whose paths hold in every directory."""
    return {
        key: str(Path(str(value)).expanduser().resolve())
        if key in MADE_ABSOLUTE and value and (key, value) != ("data.tokenizer", HASHING)
        else value
        for key, value in settings.items()
    }
