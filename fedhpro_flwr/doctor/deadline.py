"""A time limit for what may hang: a name server, a dead network disk, a driver."""

from __future__ import annotations

from collections.abc import Callable
from queue import Empty, SimpleQueue
from threading import Thread
from typing import TypeVar

T = TypeVar("T")


def within(seconds: float, job: Callable[[], T]) -> T:
    """The result of a job, or whatever it raises; a job that does not end is left behind in a daemon thread.

    Raises:
        TimeoutError: it did not end in time.
    """
    results: SimpleQueue[tuple[T | None, BaseException | None]] = SimpleQueue()

    def work() -> None:
        try:
            results.put((job(), None))
        except BaseException as error:  # raised again in the caller's thread
            results.put((None, error))

    Thread(target=work, daemon=True).start()
    try:
        result, error = results.get(timeout=seconds)
    except Empty:
        raise TimeoutError(f"no answer in {seconds:.0f} s") from None
    if error is not None:
        raise error
    return result  # type: ignore[return-value]  # of type T, as the job ended well
