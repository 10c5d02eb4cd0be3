"""Predictions as lines of a .csv or .jsonl file, or of the terminal."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from io import TextIOWrapper
from pathlib import Path
from typing import TextIO

from fedhpro_flwr.printable import printable
from fedhpro_flwr.settings.flat_keys import ConfigError
from fedhpro_flwr.whole_file import whole_file
from fedhpro_flwr.writable import refuse_unwritable_file

DIGITS = 6  # of a probability
SUFFIXES = (".csv", ".jsonl")
# A picture's name may be bytes that are no UTF-8. They are written as they are, in JSON as \\udcxx, which Python reads.
AS_IT_IS, ESCAPED = "surrogateescape", "backslashreplace"

Top = Sequence[tuple[str, float]]  # classes and their probabilities, the likeliest first
Write = Callable[[str, Top], None]


def refuse_output(out: Path | None, inputs: Sequence[Path]) -> None:
    """Check the name of the file to be written.

    Raises:
        ConfigError: it has an unknown ending, is one of the inputs, or cannot be written.
    """
    if out is None:
        return
    if out.suffix.lower() not in SUFFIXES:
        raise ConfigError(f"--out {out}: name it .csv or .jsonl, which is how it is written")
    if out.exists() and any(path.exists() and out.samefile(path) for path in inputs):
        raise ConfigError(f"--out {out} is one of the inputs; name another file")
    refuse_unwritable_file(out, f"--out {out}")


@contextmanager
def output(out: Path | None, count: int) -> Iterator[Write]:
    """A function that writes a line, to a file that appears whole or not at all, or as .csv to stdout.

    On stdout, which may be a terminal, control characters are replaced in the names of classes, which anybody may have
    written. In names of files they are replaced only on a terminal, because a script needs the name as it is.

    Args:
        out: the file; None for stdout.
        count: classes of a line.
    """
    if out is None:
        if isinstance(sys.stdout, TextIOWrapper):
            sys.stdout.reconfigure(errors=AS_IT_IS)
        write = _csv(sys.stdout, count)
        shown = printable if sys.stdout.isatty() else str
        yield lambda name, top: write(shown(name), [(printable(label), share) for label, share in top])
        sys.stdout.flush()  # so that a reader that has gone raises here, and not when Python ends
        return
    is_jsonl = out.suffix.lower() == ".jsonl"
    errors = ESCAPED if is_jsonl else AS_IT_IS
    with whole_file(out) as scratch, scratch.open("w", encoding="utf-8", errors=errors, newline="") as stream:
        yield _jsonl(stream) if is_jsonl else _csv(stream, count)


def _csv(stream: TextIO, count: int) -> Write:
    """`input,class,probability`, then `class-2,probability-2` and so on."""
    writer = csv.writer(stream, lineterminator="\n")
    ranks = ["", *(f"-{rank}" for rank in range(2, count + 1))]
    writer.writerow(["input", *(f"{column}{rank}" for rank in ranks for column in ("class", "probability"))])

    def write(name: str, top: Top) -> None:
        writer.writerow([name, *(value for label, share in top for value in (label, f"{share:.{DIGITS}f}"))])

    return write


def _jsonl(stream: TextIO) -> Write:
    """`{"input": ..., "classes": [{"class": ..., "probability": ...}, ...]}`."""

    def write(name: str, top: Top) -> None:
        classes = [{"class": label, "probability": round(share, DIGITS)} for label, share in top]
        stream.write(json.dumps({"input": name, "classes": classes}, ensure_ascii=False) + "\n")

    return write
