"""Lines as they come, and none twice."""

import signal
import subprocess
import sys
import time

from fedhpro_flwr.launch import log_stream
from fedhpro_flwr.launch.log_stream import LogStream


def printing(script):
    """What starts a process that prints as the script says."""
    return lambda: subprocess.Popen([sys.executable, "-u", "-c", script], stdout=subprocess.PIPE, text=True)


def kept(processes, script):
    """The same, and each process that it starts goes to the list."""

    def start():
        processes.append(printing(script)())
        return processes[-1]

    return start


def test_lines_in_order():
    lines = []
    with LogStream(printing("print(' a  '); print('b')"), lines.append) as log:
        log.join(30)
        assert log.ended
    assert lines == [" a  ", "b"]


def test_a_stream_that_begins_again_goes_on_where_it_was():
    lines, scripts = [], iter(["print('a\\nb')", "print('a\\nb\\nc')", "print('a')", "print('a\\nb\\nc\\nd')"])
    log = LogStream(lambda: printing(next(scripts))(), lines.append)
    for _ in range(4):
        with log:
            log.join(30)
    assert lines == ["a", "b", "c", "d"]


def test_a_stream_that_goes_on_is_ended():
    lines, processes = [], []
    with LogStream(kept(processes, "import time; print('a'); time.sleep(60)"), lines.append) as log:
        deadline = time.monotonic() + 30
        while not lines and time.monotonic() < deadline:
            time.sleep(0.01)
        log.join(0.0)  # which waits no longer
        assert not log.ended
    assert log.ended
    assert lines == ["a"]
    (process,) = processes
    assert process.returncode == -signal.SIGTERM and process.stdout.closed


def test_what_was_printed_is_handed_on_before_the_end():
    lines = []

    def slowly(line):
        lines.append(line)
        time.sleep(0.05)

    with LogStream(printing("print('a\\nb\\nc')"), slowly):
        while not lines:
            time.sleep(0.01)
    assert lines == ["a", "b", "c"]


def test_a_process_that_does_not_end_when_it_is_told_to_is_killed(monkeypatch):
    monkeypatch.setattr(log_stream, "END_SECONDS", 0.1)
    lines, processes = [], []
    script = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('a'); time.sleep(600)"
    with LogStream(kept(processes, script), lines.append) as log:
        while not lines:
            time.sleep(0.01)
    assert log.ended
    assert processes[0].returncode == -signal.SIGKILL  # and was waited for
