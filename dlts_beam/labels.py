"""Labels of a vector file's column to class ids: integers or texts, any number of classes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from dlts_beam.errors import DltsError
from dlts_beam.spec.classes import ClassTable

Label = int | str
MISSING = -1
UNKNOWN = -2
MAX_VALUE = 65534
LISTED = 20  # labels named in a message


def clean_labels(values: Iterable[Any], column: str) -> list[Label | None]:
    """Normalise raw values: integers, texts without surrounding blanks, None where there is none.

    Floating values that are whole numbers count as integers, as a column with gaps arrives. In a column that
    holds texts and numbers, all are texts.

    Raises:
        DltsError: a value is a fraction or of another type.
    """
    labels = [_clean(value, column) for value in values]
    if any(isinstance(label, str) for label in labels):
        return [label if label is None else str(label) for label in labels]
    return labels


def _clean(value: Any, column: str) -> Label | None:
    if value is None:
        return None
    if isinstance(value, str):
        return value.strip() or None
    if isinstance(value, bool | int | np.bool_ | np.integer):
        return int(value)
    if isinstance(value, float | np.floating):
        if math.isnan(value):
            return None
        if math.isfinite(value) and value == math.floor(value):
            return int(value)
    raise DltsError(
        f"label {value!r} in column {column!r} is neither integer nor text: choose another column with -c"
    )


def class_table(labels: Iterable[Label], column: str) -> ClassTable:
    """The table of the labels found: integers by value, texts by code point.

    Raises:
        DltsError: no label at all, or an integer outside 0..65534.
    """
    distinct = set(labels)
    if not distinct:
        raise DltsError(f"column {column!r} holds no label: choose another column with -c")
    wrong = sorted(label for label in distinct if isinstance(label, int) and not 0 <= label <= MAX_VALUE)
    if wrong:
        raise DltsError(
            f"labels in column {column!r} must be texts or integers in 0..{MAX_VALUE}; got {listed(wrong)}"
        )
    if len(distinct) > MAX_VALUE:
        raise DltsError(
            f"column {column!r} holds {len(distinct)} labels, and a map takes at most {MAX_VALUE}"
        )
    return ClassTable.from_labels(distinct)  # type: ignore[arg-type]


def class_ids(labels: Sequence[Label | None], table: ClassTable) -> np.ndarray:
    """int64 (N,): the class id of each label, -1 where there is none, -2 where the table has no such class.

    Integers are looked up among the values, then the names; texts among the names, then the values.
    """
    by_value = {str(row.value): row.id for row in table.rows}
    by_name = {row.name: row.id for row in table.rows}
    known: dict[Label | None, int] = {None: MISSING}
    for label in set(labels):
        if label is not None:
            first, second = (by_value, by_name) if isinstance(label, int) else (by_name, by_value)
            known[label] = first.get(str(label), second.get(str(label), UNKNOWN))
    return np.array([known[label] for label in labels], np.int64)


def check_count(table: ClassTable, wanted: int | None, column: str) -> None:
    """Compare the number of classes with ``-n``.

    Raises:
        DltsError: they differ; the classes found are listed.
    """
    if wanted is not None and wanted != len(table):
        raise DltsError(
            f"-n/--num-classes is {wanted}, but column {column!r} has {len(table)} classes:"
            f" {listed(table.names)}"
        )


def listed(values: Sequence[Label]) -> str:
    """The values for a message, cut short where there are many."""
    shown = ", ".join(str(value) for value in values[:LISTED])
    return shown if len(values) <= LISTED else f"{shown} and {len(values) - LISTED} more"
