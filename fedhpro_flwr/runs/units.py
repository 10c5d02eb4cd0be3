"""Shares, bytes and seconds as people read them."""

from __future__ import annotations


def percent(value: float | None) -> str:
    """0.5 -> 50.0."""
    return "-" if value is None else f"{100 * value:.1f}"


def size(count: float) -> str:
    """Bytes with a unit."""
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"


def milliseconds(seconds: float) -> str:
    """Seconds with a unit."""
    return f"{1000 * seconds:.1f} ms" if seconds < 1 else f"{seconds:.1f} s"
