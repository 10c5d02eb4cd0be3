"""Lines as they come, and none twice."""

import subprocess
import sys
import time

from fedhpro_flwr.launch.log_stream import LogStream


def printing(script):
    """What starts a process that prints as the script says."""
    return lambda: subprocess.Popen([sys.executable, "-u", "-c", script], stdout=subprocess.PIPE, text=True)


def test_lines_in_order():
    lines = []
    with LogStream(printing("print('a'); print('b')"), lines.append) as log:
        log.join(30)
        assert log.ended
    assert lines == ["a", "b"]


def test_a_stream_that_begins_again_goes_on_where_it_was():
    lines, scripts = [], iter(["print('a\\nb')", "print('a\\nb\\nc')", "print('a')", "print('a\\nb\\nc\\nd')"])
    log = LogStream(lambda: printing(next(scripts))(), lines.append)
    for _ in range(4):
        with log:
            log.join(30)
    assert lines == ["a", "b", "c", "d"]


def test_a_stream_that_goes_on_is_ended():
    lines = []
    with LogStream(printing("import time; print('a'); time.sleep(600)"), lines.append) as log:
        deadline = time.monotonic() + 30
        while not lines and time.monotonic() < deadline:
            time.sleep(0.01)
        assert not log.ended
    assert log.ended
    assert lines == ["a"]
