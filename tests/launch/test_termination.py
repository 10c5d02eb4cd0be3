"""An orderly end on SIGTERM and SIGHUP, which leaves other people's handlers alone."""

import signal
import subprocess
import sys

import pytest

SCRIPT = """
import os, signal
from fedhpro_flwr.launch.termination import in_order

own = lambda *_: None
ended, handled = signal.{ended}, signal.{handled}
signal.signal(handled, own)
try:
    with in_order():
        try:
            os.kill(os.getpid(), ended)
        finally:
            assert signal.getsignal(ended) is signal.SIG_IGN  # a second one does not disturb the end
            assert signal.getsignal(handled) is own
except SystemExit as end:
    assert end.code == 128 + ended
else:
    raise AssertionError("it went on")
assert signal.getsignal(ended) is signal.SIG_DFL and signal.getsignal(handled) is own
"""


@pytest.mark.parametrize(("ended", "handled"), [("SIGTERM", "SIGHUP"), ("SIGHUP", "SIGTERM")])
def test_a_signal_that_the_process_handles_itself_stays_its_own(ended, handled):
    script = SCRIPT.format(ended=ended, handled=handled)
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, preexec_fn=lambda: _default(ended)
    )
    assert done.returncode == 0, done.stderr


def _default(name: str) -> None:
    """Also where the tests themselves run under nohup."""
    signal.signal(getattr(signal, name), signal.SIG_DFL)
