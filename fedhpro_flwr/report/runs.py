"""Run folders as they are read for a report: finished ones, and unfinished ones as far as they got."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, Field, TypeAdapter

from fedhpro_flwr.accuracies import ClientsTested
from fedhpro_flwr.comparison.tuning import FOLDER as TRIALS
from fedhpro_flwr.config import ConfigError, RunConfig
from fedhpro_flwr.runs.folder_lock import LOCK_FILE
from fedhpro_flwr.runs.read_json import of_json, typed
from fedhpro_flwr.runs.reports import headline
from fedhpro_flwr.runs.run_folder import (
    CONFIG_FILE,
    FAILURE_FILE,
    METRICS_FILE,
    PARTITION_FILE,
    SUMMARY_FILE,
    read_rounds,
)
from fedhpro_flwr.runs.summary import judged_by, judging_data, told
from fedhpro_flwr.settings.recorded import read_recorded
from fedhpro_flwr.settings.section import CountOrZero


class PartitionTable(BaseModel):
    """What is read of partition.json."""

    class_names: list[str] = Field(alias="class-names")
    counts: list[list[CountOrZero]] | None
    client_domains: list[str] = Field([], alias="client-domains")
    content: str = ""


class Summary(BaseModel):
    """What is read of summary.json."""

    clients_tested: ClientsTested | None = Field(None, alias="clients-tested")


TABLE, SUMMARY = TypeAdapter(PartitionTable), TypeAdapter(Summary)


@dataclass(frozen=True)
class Division:
    """The client-by-class table of a run."""

    counts: npt.NDArray[np.int64]  # [N, C] training samples
    class_names: Sequence[str]  # [C]
    client_domains: Sequence[str]  # [N], "" if a client has none or several
    content: str = ""  # fingerprint of the samples that were divided


@dataclass(frozen=True)
class Run:
    """What a run left in its folder."""

    folder: Path
    config: RunConfig
    rounds: Sequence[Mapping[str, Any]]  # the lines of metrics.jsonl
    summary: Mapping[str, Any] | None  # None: it has not finished
    failure: str  # why it stopped; "" if it did not say
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
            summary = _summary(path.read_text(encoding="utf-8")) if path.exists() else None
            path = folder / PARTITION_FILE
            division = _division(path.read_text(encoding="utf-8")) if path.exists() else None
        except ValueError as error:
            raise ConfigError(f"{path} cannot be read: {error}; name other runs, or remove this one") from None
        said = folder / FAILURE_FILE
        failure = said.read_text(encoding="utf-8", errors="replace").strip() if said.exists() else ""
        return cls(folder, config, rounds, summary, failure, division)

    @property
    def finished(self) -> bool:
        """Whether it wrote its summary, which is written last."""
        return self.summary is not None

    @property
    def measure(self) -> str:
        """What its accuracy is of, as in summary.json; validation data is named if it is on that."""
        part = judging_data(self.config)
        return told(judged_by(self.rounds, self._final, part)[0], part)

    def accuracies(self) -> list[tuple[int, float]]:
        """(round, accuracy) of every tested round; `measure` says of what."""
        return judged_by(self.rounds, self._final)[1]

    def headline(self) -> dict[str, float | int | None]:
        """Best, last and mean-of-last-ten accuracy, for an unfinished run over the rounds so far."""
        return headline(self.accuracies())

    def last_tested(self) -> Mapping[str, Any] | None:
        """The last breakdown by class and domain: the server's, or the clients' own if the server tests nothing."""
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
        below = sorted(path.parent for path in place.rglob(CONFIG_FILE) if path.parent == place or _is_of_a_run(path))
        if not below:
            raise FileNotFoundError(f"{place} holds no run: there is no {CONFIG_FILE} of one in it or below it")
        found |= dict.fromkeys(folder.resolve() for folder in below)
    return list(found)


def _is_of_a_run(config: Path) -> bool:
    """Whether a file is a run's, and not that of another program which calls its settings so."""
    return any((config.parent / beside).exists() for beside in (LOCK_FILE, METRICS_FILE, FAILURE_FILE, PARTITION_FILE))


def without_trials(runs: Sequence[Run], places: Sequence[Path]) -> list[Run]:
    """The runs without those in which `fedhpro compare --tune` tried values on validation data; they are shown only if
    there are no others, or if their own folder was named."""
    above = [place.resolve() for place in places]

    def is_trial(run: Run) -> bool:
        within = [run.folder.relative_to(place).parts for place in above if run.folder.is_relative_to(place)]
        return run.config.data.validation_share > 0 and all(TRIALS in parts for parts in within)

    return [run for run in runs if not is_trial(run)] or list(runs)


def _summary(text: str) -> Mapping[str, Any]:
    final = typed(text, SUMMARY).clients_tested
    return {**of_json(text), "clients-tested": final and asdict(final)}


def _division(text: str) -> Division | None:
    table = typed(text, TABLE)
    if table.counts is None:  # every client has data of its own
        return None
    counts = np.array(table.counts, dtype=np.int64)
    domains = table.client_domains or [""] * len(counts)
    if counts.ndim != 2 or counts.shape[1] != len(table.class_names):
        raise ValueError(f"counts of shape {list(counts.shape)} for {len(table.class_names)} classes")
    if len(domains) != len(counts):
        raise ValueError(f"counts of {len(counts)} clients, and domains of {len(domains)}")
    return Division(counts, table.class_names, domains, table.content)
