"""A finished run, and one that was stopped."""

import shutil

import pytest
from three_rounds import SMALL, run


@pytest.fixture(scope="module")
def three_rounds(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "three"
    assert run(**SMALL | {"run-folder": folder}) == 0
    return folder


@pytest.fixture
def finished(three_rounds, tmp_path):
    """A finished run of three rounds, in a folder that it was not made in."""
    return shutil.copytree(three_rounds, tmp_path / "run")


@pytest.fixture
def stopped(finished):
    """The same, stopped after its third round."""
    (finished / "summary.json").unlink()
    return finished
