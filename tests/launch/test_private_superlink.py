"""The SuperLink of a simulated run ends with it, also where that is before it has begun."""

from __future__ import annotations

import os

import pytest

from fedhpro_flwr.launch import private_superlink
from fedhpro_flwr.launch.flower import LaunchError
from fedhpro_flwr.launch.private_superlink import PrivateSuperLink


@pytest.fixture
def superlink(tmp_path, monkeypatch):
    """One whose process never answers."""
    command = tmp_path / "flower-superlink"
    command.write_text("#!/bin/sh\nexec sleep 60\n")
    command.chmod(0o755)
    monkeypatch.setattr(private_superlink, "tool", lambda name: str(command))
    (tmp_path / "home").mkdir()
    return PrivateSuperLink(tmp_path / "home", tmp_path / "flower.log")


def test_ctrl_c_while_it_starts_leaves_no_superlink_behind(superlink, monkeypatch):
    def interrupted(port):
        raise KeyboardInterrupt

    monkeypatch.setattr(private_superlink, "accepts", interrupted)
    with pytest.raises(KeyboardInterrupt), superlink:
        pass
    assert superlink.process.poll() is not None
    with pytest.raises(ProcessLookupError):
        os.killpg(superlink.process.pid, 0)


def test_a_superlink_that_does_not_answer_in_time_is_ended(superlink, monkeypatch):
    monkeypatch.setattr(private_superlink, "START_TIMEOUT", 0.0)
    with pytest.raises(LaunchError, match="the SuperLink did not start"), superlink:
        pass
    assert superlink.process.poll() is not None
