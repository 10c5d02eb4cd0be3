"""What goes wrong at a client is answered with an error reply that names it, not with a traceback far away."""

from __future__ import annotations

from collections.abc import Callable
from logging import ERROR

from flwr.app import Error, Message, RecordDict
from flwr.common.logger import log

from fedhpro_flwr.records import CLIENT_FAILED

FAULTS = (ValueError, KeyError, OSError, RuntimeError)  # answered with a sentence; anything else is a bug to be seen


def answered(message: Message, who: str, job: Callable[[], RecordDict]) -> Message:
    """The reply of a job, or an error reply."""
    try:
        return Message(job(), reply_to=message)
    except FAULTS as error:
        return Message(Error(code=CLIENT_FAILED, reason=in_words(who, error)), reply_to=message)


def in_words(who: str, error: Exception) -> str:
    """A fault as a sentence for the reply; if it says little, with its type, and a traceback in this node's log."""
    said = str(error).encode(errors="backslashreplace").decode()  # messages are UTF-8, file names may not be
    if not isinstance(error, (KeyError, RuntimeError)):
        return f"{who}: {said}"
    reason = f"{who}: {type(error).__name__}: {said}"
    log(ERROR, "%s", reason, exc_info=error)
    return reason
