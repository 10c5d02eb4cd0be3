"""A copy of a run's folder is the same run to its clients: only one of the two can go on with what they keep."""

from __future__ import annotations

from pathlib import Path

from fedhpro_flwr.config import ConfigError, RunConfig
from fedhpro_flwr.home_folder import expanded
from fedhpro_flwr.runs.run_folder import run_of


def refuse_copied_run(folder: Path, recorded: str, config: RunConfig) -> None:
    """Refuse a copy whose original is still there, if both would use the same files of their clients.

    In a simulation without `clients.state-path` these lie in the run's folder, so that the copy has its own. What nodes
    keep on other machines cannot be seen from here.

    Args:
        folder: in which the run is to go on.
        recorded: the run's folder according to the settings recorded in it.
        config: the settings.

    Raises:
        ConfigError: both folders are named.
    """
    run, original, state = run_of(folder), Path(recorded), config.clients.state_path
    if not run or not recorded or not state or run_of(original) != run or original.samefile(folder):
        return
    kept = expanded(state) / run
    if any(path.is_file() for path in kept.rglob("*")):
        raise ConfigError(
            f"{folder} is a copy of {original}, which holds the same run: both would go on with what clients keep in "
            f"{kept}, and each would delete what the other one needs; go on in {original}, or remove it first"
        )
