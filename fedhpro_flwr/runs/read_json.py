"""JSON of a run's folder, which anybody may have written: whatever is wrong with it, the error is one sentence."""

from __future__ import annotations

import json
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from fedhpro_flwr.printable import legible

T = TypeVar("T")


def of_json(text: str) -> Any:
    """The value that the text holds.

    Raises:
        ValueError: it is no JSON, or lists lie within lists more deeply than Python reads.
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def typed(text: str | bytes, kind: TypeAdapter[T]) -> T:
    """The value that the text holds, checked to be of that kind; keys that only newer releases write are left out.

    Raises:
        ValueError: it is not; the message names the first place that is wrong.
    """
    try:
        return kind.validate_json(text, strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        place, why = ".".join(map(str, first["loc"])), first["msg"].replace("Input should", "it must")
        raise ValueError(legible(f"{place}: {why}" if place else why)) from None
