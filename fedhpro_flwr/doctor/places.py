"""Folders that are written to: is that allowed, and is there space on the disk?"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from fedhpro_flwr.doctor.finding import Finding, ok, problem, warning
from fedhpro_flwr.doctor.machine import GB
from fedhpro_flwr.doctor.subject import Subject
from fedhpro_flwr.home_folder import expanded
from fedhpro_flwr.writable import try_to_write, users_state_folder

LITTLE, TOO_LITTLE = 2 * GB, GB // 10  # bytes free on the disk


def results_folder(subject: Subject) -> Finding | None:
    """Where runs leave their results: the working directory of the server, unless the settings name a folder."""
    if subject.role == "supernode":
        return None
    return writable("results folder", Path(_named_results(subject) or "results"), "set results-dir to another folder")


def state_folder(subject: Subject) -> Finding | None:
    """Where a node keeps what does not travel: `state-path` of its config, or the user's state folder."""
    if subject.role != "supernode":
        return None
    named = str(subject.node_config.get("state-path", ""))
    advice = "name another folder in the node config, state-path='...'"
    return writable("state folder", Path(named) if named else users_state_folder(), advice)


def flower_folder(subject: Subject) -> Finding | None:
    """Where Flower keeps the apps that it was sent and its connections: FLWR_HOME."""
    home = os.environ.get("FLWR_HOME", "")
    if home and not Path(home).is_absolute():
        return warning("flower folder", f"FLWR_HOME = {home} depends on the directory", "set FLWR_HOME to a full path")
    return writable("flower folder", Path(home or "~/.flwr"), "set FLWR_HOME to another folder")


def writable(check: str, folder: Path, advice: str) -> Finding:
    """Can a file be written to a folder, or to the one in which that would be made, and how much space is free?"""
    folder = expanded(folder).absolute()
    there = next(place for place in (folder, *folder.parents) if place.exists())
    try:
        try_to_write(there)
    except OSError as error:
        return problem(check, f"{folder} cannot be written: {error.strerror}", f"change its rights, or {advice}")
    free = shutil.disk_usage(there).free
    found = f"{folder}, {free / GB:.1f} GB free"
    if free < TOO_LITTLE:
        return problem(check, found, f"free some space, or {advice}")
    if free < LITTLE:
        return warning(check, found, f"checkpoints and unpacked apps may fill it: free some space, or {advice}")
    return ok(check, found)


def _named_results(subject: Subject) -> str:
    if not subject.settings:
        return ""
    from fedhpro_flwr.settings.from_command_line import read_settings  # imports torch

    return str(read_settings(subject.settings, []).get("results-dir", ""))
