"""What a check found, and how bad it is."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Level(StrEnum):
    """How bad a finding is."""

    OK = "ok"
    WARNING = "warning"  # works, but more slowly, less safely, or not for long
    PROBLEM = "problem"  # does not work


@dataclass(frozen=True)
class Finding:
    """One line of the table.

    Args:
        check: what was looked at.
        level: how bad it is.
        found: what was seen.
        advice: one sentence on what to do; empty if it is ok.
    """

    check: str
    level: Level
    found: str
    advice: str = ""


def ok(check: str, found: str) -> Finding:
    """Nothing to do."""
    return Finding(check, Level.OK, found)


def warning(check: str, found: str, advice: str) -> Finding:
    """It works, but more slowly, less safely, or not for long."""
    return Finding(check, Level.WARNING, found, advice)


def problem(check: str, found: str, advice: str) -> Finding:
    """It does not work."""
    return Finding(check, Level.PROBLEM, found, advice)
