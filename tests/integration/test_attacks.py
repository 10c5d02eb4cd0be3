"""2 of 10 clients hostile, on digits: robust aggregation stays within 3 points of the clean run, the plain mean not."""

from __future__ import annotations

import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest

from fedhpro_flwr.config import RunConfig
from fedhpro_flwr.settings.from_command_line import prepare

ATTACKS = Path(__file__).resolve().parents[2] / "benchmarks" / "attacks.py"
SPEC = spec_from_file_location("attacks", ATTACKS)
assert SPEC is not None and SPEC.loader is not None
attacks = sys.modules["attacks"] = module_from_spec(SPEC)  # where a dataclass looks for its module
SPEC.loader.exec_module(attacks)

SHORT = ["rounds=15", "partition.alpha=5.0", "local.epochs=2", "evaluation.every=5"]
HOSTILE = (0, 1)


def accuracy(rule: str, factor: float) -> float:
    """Percent, after the last round."""
    settings = prepare("digits-small", SHORT).flat() | attacks.RULES[rule]
    return float(attacks.accuracy(RunConfig.parse(settings), HOSTILE if factor != 1.0 else (), factor, last=1))


@pytest.fixture(scope="module")
def clean() -> float:
    return accuracy("mean", 1.0)


@pytest.mark.parametrize("factor", [-10.0, 100.0])
def test_the_plain_mean_is_lost(clean: float, factor: float) -> None:
    assert not accuracy("mean", factor) > clean - 30  # it learns nothing, or ends with models that are no numbers


@pytest.mark.parametrize(
    ("rule", "factor"),
    [("contrary set aside, trimmed mean", -1.0), ("contrary set aside, trimmed mean", -10.0), ("trimmed mean", 100.0)],
)
def test_robust_aggregation_is_not(clean: float, rule: str, factor: float) -> None:
    assert clean > 90
    assert accuracy(rule, factor) > clean - 3
