"""A run to track, and an environment in which no tracker reaches beyond the test's folder."""

import os

import pytest

from fedhpro_flwr.config import RunConfig
from fedhpro_flwr.tracking import TrackedRun


@pytest.fixture(autouse=True, scope="module")
def no_network_and_no_home(tmp_path_factory):
    """What the developer has set for these libraries does not count, and they keep nothing beyond temporary files."""
    with pytest.MonkeyPatch.context() as environment:
        for name in [name for name in os.environ if name.startswith(("WANDB_", "MLFLOW_"))]:
            environment.delenv(name)
        for name in ("CONFIG", "CACHE", "DATA"):
            environment.setenv(f"WANDB_{name}_DIR", str(tmp_path_factory.mktemp("home")))
        # Trackers set these where they are missing; set here, they are gone again after the tests.
        environment.setenv("WANDB_ERROR_REPORTING", "false")
        environment.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
        environment.setenv("MLFLOW_LOGGING_LEVEL", "WARNING")
        yield


@pytest.fixture
def tracked_run(tmp_path):
    """A run's folder and all its settings; three of them are not the defaults."""
    folder = tmp_path / "digits" / "20261124-120000-ab12"
    folder.mkdir(parents=True)
    config = RunConfig.parse({"local.lr": 0.125, "data.path": 'a "b" c', "local.flip": False})
    return TrackedRun(folder, config.experiment, config.flat())
