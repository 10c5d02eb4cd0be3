"""MLflow: what its own client finds in the database."""

import math
import shutil
from pathlib import Path

import pytest

from fedhpro_flwr.tracking.mlflow import MLflow

pytest.importorskip("mlflow", reason="the package mlflow-skinny is not installed")


def client(folder):
    from mlflow.tracking import MlflowClient

    return MlflowClient(tracking_uri=f"sqlite:///{folder / 'mlflow.db'}")


@pytest.fixture(scope="module")
def empty_database(tmp_path_factory):
    """MLflow takes seconds to make one."""
    folder = tmp_path_factory.mktemp("empty")
    client(folder).search_experiments()
    return folder / "mlflow.db"


@pytest.fixture
def with_database(tracked_run, empty_database):
    """The run, in whose folder the database exists."""
    (tracked_run.folder / "mlflow").mkdir()
    shutil.copy(empty_database, tracked_run.folder / "mlflow")
    return tracked_run


def runs(run):
    """All runs of the experiment, the newest first."""
    (experiment,) = [one for one in client(run.folder / "mlflow").search_experiments() if one.name == run.experiment]
    assert experiment.artifact_location == (run.folder / "mlflow" / "artifacts").as_uri()
    return client(run.folder / "mlflow").search_runs([experiment.experiment_id])


def history(run, run_id, name):
    return [(item.step, item.value) for item in client(run.folder / "mlflow").get_metric_history(run_id, name)]


def test_settings_numbers_and_summary_read_back(tracked_run, tmp_path, monkeypatch):
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    flow = MLflow(tracked_run)
    flow.log(1, {"server/accuracy": 0.1, "server/domain/Ärzte 2.0-x": 0.5})
    flow.log(2, {"server/accuracy": 0.75})
    flow.summary({"summary/best": 0.75})
    flow.close(failed=False)
    (stored,) = runs(tracked_run)
    assert (stored.info.run_name, stored.info.status) == (tracked_run.folder.name, "FINISHED")
    assert stored.data.params == {key: str(value) for key, value in tracked_run.settings.items()}
    assert history(tracked_run, stored.info.run_id, "server/accuracy") == [(1, 0.1), (2, 0.75)]
    assert stored.data.metrics == {
        "server/accuracy": 0.75,
        "server/domain/Ärzte 2.0-x": 0.5,
        "summary/best": 0.75,
    }
    assert list(Path.cwd().iterdir()) == []  # MLflow's default is a store in the working directory


def test_more_numbers_than_one_call_takes(with_database):
    flow = MLflow(with_database)
    numbers = {f"server/domain/{number}": float(number) for number in range(1001)}
    flow.log(1, numbers)
    flow.close(failed=False)
    (stored,) = runs(with_database)
    assert stored.data.metrics == numbers


def test_a_loss_that_diverged_is_kept(with_database):
    flow = MLflow(with_database)
    flow.log(1, {"train/loss": math.nan})
    flow.close(failed=False)
    (stored,) = runs(with_database)
    assert math.isnan(stored.data.metrics["train/loss"])


def test_a_second_attempt_is_a_second_run_and_the_first_is_marked_as_failed(with_database):
    MLflow(with_database).close(failed=True)
    MLflow(with_database).close(failed=False)
    assert [stored.info.status for stored in runs(with_database)] == ["FINISHED", "FAILED"]
