"""What a tracker is, and which there are."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import ClassVar, TypeVar

from fedhpro_flwr.registry import Registry
from fedhpro_flwr.settings.flat_keys import ConfigError, Scalar


@dataclass(frozen=True)
class TrackedRun:
    """What a tracker is told of a run before the run's first round."""

    folder: Path  # of the run; its name is the run's name, and each tracker writes to its own folder below it
    experiment: str
    settings: Mapping[str, Scalar]  # every key of the app
    rounds_before: int = 0  # rounds of an earlier attempt, after which the run goes on


class Tracker(ABC):
    """One run in one tracker. If any method raises, the run goes on without the tracker (trackers.py).

    A subclass imports its library in `__init__`, and writes nothing outside `run.folder / name`.
    """

    name: ClassVar[str]  # in the setting `trackers`; also of its folder, its library and the extra that installs it

    @abstractmethod
    def __init__(self, run: TrackedRun) -> None:
        """Begin the run in the tracker, with all settings."""

    @abstractmethod
    def log(self, server_round: int, numbers: Mapping[str, float]) -> None:
        """Write the numbers of a round, so that they can be looked at while the run goes on."""

    @abstractmethod
    def summary(self, numbers: Mapping[str, float]) -> None:
        """Write the numbers of the whole run, after its last round."""

    @abstractmethod
    def close(self, *, failed: bool) -> None:
        """End the run in the tracker; always called, whether the run ended well or failed."""


TRACKERS: Registry[type[Tracker]] = Registry("trackers")
T = TypeVar("T", bound=type[Tracker])


def tracker(name: str) -> Callable[[T], T]:
    """Register the decorated class under `name`, which is also the name of the library that it needs."""

    def register(cls: T) -> T:
        cls.name = name
        TRACKERS.register(name)(cls)
        return cls

    return register


def chosen_trackers(text: str) -> dict[str, type[Tracker]]:
    """The trackers named in `trackers = "tensorboard, mlflow"`, in that order, or none. Imports no library.

    Raises:
        ConfigError: there is no tracker of that name, and the message lists those there are; or its library is not
            installed, and the message says how to install it.
    """
    chosen = {name: TRACKERS.find(name) for name in map(str.strip, text.split(",")) if name}
    for name in chosen:
        found = find_spec(name)
        if found is None or found.origin is None:  # no origin: a mere folder of that name, such as wandb leaves behind
            raise ConfigError(
                f"trackers = {name!r}: the library {name} is not installed; pip install 'fedhpro-flwr[{name}]'"
            )
    return chosen
