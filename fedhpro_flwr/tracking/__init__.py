"""Trackers: a run's settings and numbers in TensorBoard, Weights & Biases or MLflow, beside its own metrics.jsonl.

A new tracker is one file with a subclass of `Tracker` under the decorator `@tracker("name")`, and its name below.
"""

from __future__ import annotations

from fedhpro_flwr.tracking import mlflow, tensorboard, wandb  # noqa: F401  they register themselves
from fedhpro_flwr.tracking.base import TRACKERS, TrackedRun, Tracker, chosen_trackers, tracker
from fedhpro_flwr.tracking.named_numbers import round_numbers, summary_numbers
from fedhpro_flwr.tracking.trackers import Trackers

__all__ = [
    "TRACKERS",
    "TrackedRun",
    "Tracker",
    "Trackers",
    "chosen_trackers",
    "round_numbers",
    "summary_numbers",
    "tracker",
]
