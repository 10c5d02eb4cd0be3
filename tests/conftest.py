"""One thread, as the runs themselves have: sums of floats are then the same everywhere, and xdist shares the cores.

What data sets keep for the next process goes to a folder of the tests' own. `from faulty_grid import ...` works in
this folder's tests: pytest's importlib mode puts no folder on the path.
"""

import shutil
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest
import torch
from flwr.supercore.task_identity import TaskIdentity

from fedhpro_flwr.runs import results

# Last on the path: the folders in here are called as packages may be.
sys.path.append(str(Path(__file__).resolve().parent))

# A test run in the background ignores Ctrl-C, and so would every process that it starts and presses Ctrl-C in.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN and threading.current_thread() is threading.main_thread():
    signal.signal(signal.SIGINT, signal.default_int_handler)

torch.set_num_threads(1)

# The same examples on every run and machine, without a data base beside the tests, and however slow the machine is.
hypothesis.settings.register_profile("repeatable", derandomize=True, deadline=None, max_examples=50, database=None)
hypothesis.settings.load_profile("repeatable")

# Outside a Flower process nobody has said which run this is, and Message() insists on knowing.
TaskIdentity.run_id = TaskIdentity.node_id = TaskIdentity.task_id = 1


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Flower's real processes first: begun last, they would keep one core busy at the end while the other idles."""
    items.sort(key=lambda item: item.get_closest_marker("simulation") is None)


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Nothing is read from the user's cache folder or left in it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


DRAWN = results.draw_curves


@pytest.fixture(scope="session", autouse=True)
def no_pictures() -> Iterator[None]:
    """Runs within the tests' own process draw no curves.png, which takes longer than a short run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(results, "draw_curves", lambda *_: b"not drawn")
        yield


@pytest.fixture
def pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """They draw it after all."""
    monkeypatch.setattr(results, "draw_curves", DRAWN)


@pytest.fixture(scope="module")
def three_rounds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of three rounds."""
    from three_rounds import SMALL, run

    folder = tmp_path_factory.mktemp("runs") / "three"
    assert run(**SMALL | {"run-folder": folder}) == 0
    return folder


@pytest.fixture
def finished(three_rounds: Path, tmp_path: Path) -> Path:
    """The same, in a folder that it was not made in."""
    return Path(shutil.copytree(three_rounds, tmp_path / "run"))


@pytest.fixture
def stopped(finished: Path) -> Path:
    """The same, stopped after its third round."""
    (finished / "summary.json").unlink()
    return finished
