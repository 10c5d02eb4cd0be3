"""Run folders as they are read for a report: finished ones, and unfinished ones as far as they got."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fedhpro_flwr.accuracies import ClientsTested
from fedhpro_flwr.config import ConfigError, RunConfig
from fedhpro_flwr.runs.reports import headline
from fedhpro_flwr.runs.run_folder import CONFIG_FILE, FAILURE_FILE, PARTITION_FILE, SUMMARY_FILE, read_rounds
from fedhpro_flwr.runs.summary import judged_by, judging_data, told
from fedhpro_flwr.settings.recorded import read_recorded


@dataclass(frozen=True)
class Division:
    """The client-by-class table of a run."""

    counts: npt.NDArray[np.int64]  # [N, C] training samples
    class_names: Sequence[str]  # [C]
    client_domains: Sequence[str]  # [N], "" where a client has none or several


@dataclass(frozen=True)
class Run:
    """What a run left in its folder."""

    folder: Path
    config: RunConfig
    rounds: Sequence[Mapping[str, Any]]  # the lines of metrics.jsonl
    summary: Mapping[str, Any] | None  # None: it has not finished
    failure: str  # why it stopped, "" where it did not say
    division: Division | None

    @classmethod
    def read(cls, folder: Path) -> Run:
        """Read a folder.

        Raises:
            ConfigError: a file in it cannot be understood; the message names it.
        """
        rounds = read_rounds(folder)
        path = folder / CONFIG_FILE
        try:
            config = read_recorded(path)
            path = folder / SUMMARY_FILE
            summary = _summary(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else None
            path = folder / PARTITION_FILE
            division = _division(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else None
        except (ValueError, KeyError, TypeError) as error:
            raise ConfigError(f"{path} cannot be read: {error}; name other runs, or remove this one") from None
        said = folder / FAILURE_FILE
        failure = said.read_text(encoding="utf-8").strip() if said.exists() else ""
        return cls(folder, config, rounds, summary, failure, division)

    @property
    def finished(self) -> bool:
        """Whether it wrote its summary, which is written last."""
        return self.summary is not None

    @property
    def measure(self) -> str:
        """What its accuracy is of, as in summary.json, and that it is over validation data where it is."""
        part = judging_data(self.config)
        return told(judged_by(self.rounds, self._final, part)[0], part)

    def accuracies(self) -> list[tuple[int, float]]:
        """(round, accuracy) of every tested round, of what `measure` says."""
        return judged_by(self.rounds, self._final)[1]

    def headline(self) -> dict[str, float | int | None]:
        """Best, last and mean-of-last-ten accuracy, of an unfinished run as far as it got."""
        return headline(self.accuracies())

    def last_tested(self) -> Mapping[str, Any] | None:
        """The last breakdown by class and domain: the server's, or where it tests nothing the clients' own."""
        tested = [line["tested"] for line in self.rounds if line["tested"]]
        if tested:
            return dict(tested[-1])
        if self.summary and self.summary.get("clients-tested"):
            return dict(self.summary["clients-tested"])
        received = [line["received"] for line in self.rounds if line["received"]]
        return dict(received[-1]) if received else None

    @property
    def _final(self) -> ClientsTested | None:
        said = (self.summary or {}).get("clients-tested")
        return ClientsTested(**said) if said else None


def find_runs(places: Sequence[Path]) -> list[Path]:
    """Run folders among `places` and below them, each once, in the order of their names.

    Raises:
        FileNotFoundError: a place does not exist, or there is no run in it.
    """
    found: dict[Path, None] = {}
    for place in places:
        if not place.is_dir():
            raise FileNotFoundError(f"{place} is no folder; name the folder of a run, or one that holds several")
        below = sorted(_below(place))
        if not below:
            raise FileNotFoundError(f"{place} holds no run: there is no {CONFIG_FILE} in it or below it")
        found |= dict.fromkeys(folder.resolve() for folder in below)
    return list(found)


def _below(place: Path) -> Iterator[Path]:
    for path in place.rglob(CONFIG_FILE):
        yield path.parent


def _summary(content: object) -> Mapping[str, Any]:
    if not isinstance(content, dict):
        raise TypeError("it is not the summary of a run")
    return content


def _division(table: Mapping[str, Any]) -> Division | None:
    if table["counts"] is None:  # every client has data of its own
        return None
    counts = np.asarray(table["counts"], dtype=np.int64)
    if counts.ndim != 2 or counts.shape[1] != len(table["class-names"]):
        raise ValueError(f"counts of shape {list(counts.shape)} for {len(table['class-names'])} classes")
    return Division(counts, table["class-names"], table.get("client-domains") or [""] * len(counts))
