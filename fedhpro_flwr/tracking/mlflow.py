"""MLflow: one SQLite file, which `mlflow ui` shows."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping

from fedhpro_flwr.tracking.base import TrackedRun, Tracker, tracker

DATABASE_FILE = "mlflow.db"
MOST_PARAMS, MOST_METRICS = 100, 1000  # MLflow's limits for one call of log_batch


@tracker("mlflow")
class MLflow(Tracker):
    """Numbers as metrics, settings as parameters, in an experiment of the run's own database.

    It uses MLflow's client, not its fluent functions, which keep an active run in a global variable. MLflow's older
    store, a folder of text files, is no longer accepted by its release 3.17.

    Source: https://mlflow.org/docs/latest/python_api/mlflow.client.html
    """

    def __init__(self, run: TrackedRun) -> None:
        # The library reads these when imported. Without them it reports its use, and logs every table that it makes.
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
        from mlflow.entities import Param
        from mlflow.tracking import MlflowClient

        folder = run.folder / self.name
        folder.mkdir(parents=True, exist_ok=True)
        self.client = MlflowClient(tracking_uri=f"sqlite:///{folder / DATABASE_FILE}")
        known = self.client.get_experiment_by_name(run.experiment)  # from an earlier attempt in this folder
        experiment = (
            known.experiment_id
            if known
            else self.client.create_experiment(run.experiment, artifact_location=(folder / "artifacts").as_uri())
        )
        self.run_id: str = self.client.create_run(experiment, run_name=run.folder.name).info.run_id
        params = [Param(key, str(value)) for key, value in run.settings.items()]
        for first in range(0, len(params), MOST_PARAMS):
            self.client.log_batch(self.run_id, params=params[first : first + MOST_PARAMS])

    def log(self, server_round: int, numbers: Mapping[str, float]) -> None:
        """Each number is a metric, and the round is its step."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        metrics = [Metric(name, value, now, server_round) for name, value in numbers.items()]
        for first in range(0, len(metrics), MOST_METRICS):
            self.client.log_batch(self.run_id, metrics=metrics[first : first + MOST_METRICS])

    def summary(self, numbers: Mapping[str, float]) -> None:
        """Metrics at step 0."""
        self.log(0, numbers)

    def close(self, *, failed: bool) -> None:
        """Set the run's status: FINISHED or FAILED."""
        self.client.set_terminated(self.run_id, status="FAILED" if failed else "FINISHED")
