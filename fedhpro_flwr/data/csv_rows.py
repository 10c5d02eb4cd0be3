"""The rows of a .csv file with their line numbers, so that whoever finds one wrong can say where it is."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from fedhpro_flwr.data.endless import is_endless

LONGEST_FIELD = 2**31 - 1


@dataclass(frozen=True)
class Row:
    """One row and the place it begins at."""

    file: Path
    line: int  # from 1; a quoted field may run over several lines
    fields: list[str]

    def error(self, problem: str) -> ValueError:
        """An error that says where: "file, line 3: problem"."""
        return ValueError(f"{self.file}, line {self.line}: {problem}")


def csv_rows(file: Path) -> Iterator[Row]:
    """Rows of a comma-separated UTF-8 file, empty lines left out.

    Raises:
        ValueError: a quote that is not closed, text behind a closing quote, bytes that are no UTF-8, or no file.
    """
    if is_endless(file):
        raise ValueError(f"{file} is a pipe or a device, no .csv file")
    csv.field_size_limit(LONGEST_FIELD)  # or a long text counts as a quote that is not closed
    line = 1
    # utf-8-sig: spreadsheets write a byte order mark, which would become part of the first field.
    with file.open(encoding="utf-8-sig", newline="") as text:
        reader = csv.reader(text, strict=True)
        try:
            for fields in reader:
                if fields:
                    yield Row(file, line, fields)
                line = reader.line_num + 1
        except csv.Error as error:
            raise ValueError(
                f"{file}, line {line}: a quote is not closed or stands in the wrong place ({error})"
            ) from error
        except UnicodeDecodeError as error:
            raise ValueError(f"{file} is no UTF-8 text ({error}); save it as UTF-8") from error
