"""The SuperLink of a simulated run ends with it, also where that is before it has begun."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fedhpro_flwr.launch import private_superlink
from fedhpro_flwr.launch.flower import LaunchError
from fedhpro_flwr.launch.private_superlink import PrivateSuperLink, groups_with


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
    with pytest.raises(LaunchError, match="the SuperLink died with status -15"):
        superlink.check()


@pytest.mark.skipif(sys.platform != "linux", reason="there is no /proc")
def test_what_the_superlink_started_in_sessions_of_their_own_ends_with_it(superlink, tmp_path, monkeypatch):
    """As Flower starts its simulation: detached, its parent soon gone."""
    begun = tmp_path / "begun"
    script = f"#!/bin/sh\necho said\nsetsid sh -c 'echo $$ > {begun}; sleep 60; true' &\nexec sleep 60\n"
    (tmp_path / "flower-superlink").write_text(script)
    monkeypatch.setattr(private_superlink, "accepts", lambda port: begun.exists() and begun.read_text() != "")
    with superlink:
        detached = int(begun.read_text())
        assert os.getsid(superlink.process.pid) == superlink.process.pid  # Ctrl-C does not reach it
        assert detached in groups_with({"FLWR_HOME": str(superlink.home)})
    deadline = time.monotonic() + 5
    while (left := groups_with({"FLWR_HOME": str(superlink.home)})) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert left == set()
    assert superlink.log_file.read_text() == "said\n"


@pytest.mark.skipif(sys.platform != "linux", reason="there is no /proc")
def test_groups_are_found_by_all_of_the_variables():
    # A process that has only just been started may not show its environment yet: this one tells when it runs.
    command = ["sh", "-c", "echo; read line"]
    piped = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "start_new_session": True}
    with subprocess.Popen(command, env={"FEDHPRO_A": "1", "FEDHPRO_B": "22"}, **piped) as one:
        try:
            one.stdout.readline()
            assert groups_with({"FEDHPRO_A": "1", "FEDHPRO_B": "22"}) == {one.pid}
            assert groups_with({"FEDHPRO_A": "1", "FEDHPRO_B": "2"}) == set()
        finally:
            one.kill()
    name, _, value = Path("/proc/self/environ").read_text().split("\0")[0].partition("=")
    assert os.getpgrp() not in groups_with({name: value})  # which is asked for to kill what it finds
