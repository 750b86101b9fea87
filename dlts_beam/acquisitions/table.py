"""Tables of dates that users give: which file, or which layer, was acquired when."""

from __future__ import annotations

import csv
import io

from dlts_beam import storage
from dlts_beam.dates import parse_time
from dlts_beam.errors import DltsError

_FILE_WORDS = {"file", "filename", "file_name", "name", "path", "image"}
_DATE_WORDS = {"date", "time", "datetime", "acquired", "acquisition", "day"}


def read_dates(path: str) -> tuple[tuple[str, str], ...]:
    """Return (file name, ISO time) rows; the file name is empty where the table has dates only.

    The table is CSV (comma, semicolon or tab) with columns file and date, in any order and with or without
    a header, or has one date a line.

    Raises:
        DltsError: the file cannot be read, or a line holds no date.
    """
    text = storage.read_text(path)
    lines = [line for line in text.splitlines() if line.strip()]
    if not lines:
        raise DltsError(f"the table of dates {path} is empty")
    delimiter = next((mark for mark in "\t;," if mark in lines[0]), ",")
    rows = [
        [cell.strip() for cell in row]
        for row in csv.reader(io.StringIO("\n".join(lines)), delimiter=delimiter)
    ]
    header = [cell.casefold() for cell in rows[0]]
    if not any(parse_time(cell) for cell in rows[0]):
        dates = [number for number, cell in enumerate(header) if cell in _DATE_WORDS]
        files = [number for number, cell in enumerate(header) if cell in _FILE_WORDS]
        if len(dates) != 1 or len(files) > 1:
            raise DltsError(
                f"the table of dates {path} needs columns file and date; it has {', '.join(header)}"
            )
        date_column, file_column = dates[0], files[0] if files else None
        rows = rows[1:]
        first_line = 2
    else:
        date_column = next(number for number, cell in enumerate(rows[0]) if parse_time(cell))
        file_column = (1 - date_column) if len(rows[0]) == 2 else None
        if len(rows[0]) > 2:
            raise DltsError(
                f"the table of dates {path} needs a first line with the columns' names: file,date"
            )
        first_line = 1
    found = []
    for line, row in enumerate(rows, start=first_line):
        time = parse_time(row[date_column]) if date_column < len(row) else None
        if time is None:
            text = ",".join(row)
            raise DltsError(f"line {line} of the table of dates {path} holds no date: {text!r}")
        name = row[file_column] if file_column is not None and file_column < len(row) else ""
        if file_column is not None and not name:
            raise DltsError(f"line {line} of the table of dates {path} names no file")
        found.append((name, time))
    return tuple(found)
