"""Small run folders in the layout that a run leaves, written by hand."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tomli_w

from fedhpro_flwr.config import RunConfig
from fedhpro_flwr.settings.flat_keys import nest

MakeRun = Callable[..., Path]


def line(server_round: int, accuracy: float, domains: dict[str, float] | None = None) -> dict[str, Any]:
    """A line of metrics.jsonl of a server's test on two classes."""
    return {
        "server_round": server_round,
        "seconds": 2.0,
        "server_seconds": {"waiting": 1.5, "matching": 0.25},
        "client_seconds": {"local-training": 3.0},
        "bytes_down": {"model": 2_000_000},
        "bytes_up": {"model": 1_000_000},
        "clients": [],
        "set_aside": [],
        "train_loss": 1.0 / server_round,
        "received": None,
        "tested": {
            "accuracy": accuracy,
            "loss": 1.0,
            "class_accuracy": [accuracy, 1.0],
            "domain_accuracy": domains or {},
            "mean_over_domains": sum(domains.values()) / len(domains) if domains else None,
        },
        "method": {},
    }


@pytest.fixture
def make_run(tmp_path: Path) -> MakeRun:
    """Writes a run folder under tmp_path/runs: its name, an accuracy a round, and changed settings."""

    def make(name: str, accuracies: list[float], *, finished: bool = True, failure: str = "", **changes: Any) -> Path:
        folder = tmp_path / "runs" / name
        folder.mkdir(parents=True)
        config = RunConfig.parse({"rounds": len(accuracies) or 5, "run-folder": str(folder)}, **changes)
        (folder / "config.toml").write_text(tomli_w.dumps(nest(config.flat())))
        domains = [{"north": value, "south": value / 2} if config.data.domains else None for value in accuracies]
        lines = [line(r, value, domains[r - 1]) for r, value in enumerate(accuracies, start=1)]
        (folder / "metrics.jsonl").write_text("".join(json.dumps(each) + "\n" for each in lines))
        table = {"class-names": ["cat", "dog"], "client-domains": ["", ""], "counts": [[3, 0], [1, 4]]}
        (folder / "partition.json").write_text(json.dumps(table))
        if finished:
            (folder / "summary.json").write_text(json.dumps({"clients-tested": None}))
        if failure:
            (folder / "failure.txt").write_text(failure)
        return folder

    return make
