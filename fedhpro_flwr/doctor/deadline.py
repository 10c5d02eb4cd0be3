"""A time limit for what may hang: a name server, a dead network disk, a driver."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, wait
from threading import Thread
from typing import TypeVar

T = TypeVar("T")


def within(seconds: float, job: Callable[[], T]) -> T:
    """The result of a job, or the error it raises; a job that does not end in time is left in a daemon thread.

    Raises:
        TimeoutError: the job did not end in time.
    """
    result: Future[T] = Future()

    def work() -> None:
        try:
            result.set_result(job())
        except BaseException as error:  # raised again in the caller's thread
            result.set_exception(error)

    Thread(target=work, daemon=True).start()
    if not wait([result], seconds).done:
        raise TimeoutError(f"no answer in {seconds:.0f} s")
    return result.result()
