"""The trackers of a run as one observer of its rounds. If a tracker fails, the run goes on without it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from logging import WARNING
from pathlib import Path
from typing import Any

from flwr.common.logger import log

from fedhpro_flwr.config import RunConfig
from fedhpro_flwr.runs.reports import RoundReport
from fedhpro_flwr.tracking.base import TrackedRun, Tracker, chosen_trackers
from fedhpro_flwr.tracking.named_numbers import round_numbers, summary_numbers


class Trackers:
    """The trackers that `trackers` names: `with Trackers(config, folder) as ...`, then `start`, rounds, `summary`.

    Leaving the block ends the run in every tracker; an exception marks it as failed there.

    Args:
        config: all settings of the run.
        folder: of the run.
        rounds_before: rounds of an earlier attempt, after which the run goes on.

    Raises:
        ConfigError: an unknown tracker, or one whose library is not installed.
    """

    def __init__(self, config: RunConfig, folder: Path, *, rounds_before: int = 0) -> None:
        self.chosen = chosen_trackers(config.trackers)
        self.run = TrackedRun(folder, config.experiment, config.flat(), rounds_before)
        self.running: dict[str, Tracker] = {}

    def __enter__(self) -> Trackers:
        return self

    def start(self) -> None:
        """Begin the run in every tracker, with its settings."""
        for name, kind in self.chosen.items():
            with self._or_without(name):
                self.running[name] = kind(self.run)

    def on_round(self, report: RoundReport) -> None:
        """Log the numbers of a round."""
        numbers = round_numbers(report)
        for name, tracker in list(self.running.items()):
            with self._or_without(name):
                tracker.log(report.server_round, numbers)

    def summary(self, content: Mapping[str, Any]) -> None:
        """Log best, last and mean-of-last-ten accuracy, from the content of summary.json."""
        numbers = summary_numbers(content)
        for name, tracker in list(self.running.items()):
            with self._or_without(name):
                tracker.summary(numbers)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        for name, tracker in list(self.running.items()):
            with self._or_without(name):
                tracker.close(failed=kind is not None)
        self.running.clear()

    @contextmanager
    def _or_without(self, name: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            self.running.pop(name, None)
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            log(WARNING, "tracker %s failed, the run goes on without it: %s", name, reason)
