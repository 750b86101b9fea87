"""The classes of a map: internal id, the user's own value, name and colour (``classes.csv``)."""

from __future__ import annotations

import csv
import io
import operator
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from dlts_beam.errors import DltsError

# Okabe and Ito's eight colours (safe for colour-blind readers), then eight of Tableau's.
PALETTE = (
    "#009e73", "#e69f00", "#56b4e9", "#d55e00", "#0072b2", "#cc79a7", "#f0e442", "#000000",
    "#8c564b", "#9467bd", "#bcbd22", "#7f7f7f", "#17becf", "#e377c2", "#2ca02c", "#1f77b4",
)  # fmt: skip
HEADER = ("id", "value", "name", "colour")


@dataclass(frozen=True)
class ClassRow:
    """One class: ``id`` 0..n-1 as stored in samples, ``value`` as in the user's data and the map."""

    id: int
    value: int
    name: str
    colour: str

    def __post_init__(self) -> None:
        if self.id < 0:
            raise ValueError(f"class id must be 0 or more; got {self.id}")
        if not 0 <= self.value <= 65534:
            raise ValueError(f"the value of class {self.name!r} must lie in 0..65534; got {self.value}")
        if not re.fullmatch(r"#[0-9a-f]{6}", self.colour):
            raise ValueError(f"the colour of class {self.name!r} must look like #1f77b4; got {self.colour!r}")


@dataclass(frozen=True)
class ClassTable:
    """All classes in the order of their ids."""

    rows: tuple[ClassRow, ...]

    def __post_init__(self) -> None:
        if [row.id for row in self.rows] != list(range(len(self.rows))):
            raise ValueError(f"class ids must run from 0 upwards; got {[row.id for row in self.rows]}")
        for what, seen in (("value", [r.value for r in self.rows]), ("name", [r.name for r in self.rows])):
            if len(set(seen)) != len(seen):
                raise ValueError(f"two classes have the same {what}: {seen}")

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def names(self) -> tuple[str, ...]:
        """Class names in the order of ids."""
        return tuple(row.name for row in self.rows)

    @property
    def values(self) -> tuple[int, ...]:
        """Map values in the order of ids."""
        return tuple(row.value for row in self.rows)

    @property
    def nodata(self) -> int:
        """Map value of pixels without a class: 255, or 65535 where values go beyond 254."""
        return 255 if max(self.values, default=0) <= 254 else 65535

    @property
    def map_dtype(self) -> str:
        """Data type of the map: ``uint8`` or ``uint16``."""
        return "uint8" if self.nodata == 255 else "uint16"

    def to_csv(self) -> str:
        """Return ``classes.csv`` (id, value, name, colour)."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(HEADER)
        writer.writerows((row.id, row.value, row.name, row.colour) for row in self.rows)
        return text.getvalue()

    @classmethod
    def from_csv(cls, text: str, where: str = "classes.csv") -> ClassTable:
        """Parse a table that has at least a column ``value`` or ``class``; ids follow its order.

        Names default to the value, colours to the palette.

        Raises:
            DltsError: a column is missing or a row is wrong; file and line are named.
        """
        reader = csv.DictReader(io.StringIO(text.lstrip("\ufeff")))
        fields = {(name or "").strip().lower(): name for name in reader.fieldnames or ()}
        column = next((fields[name] for name in ("value", "class", "id") if name in fields), None)
        if column is None:
            raise DltsError(f"{where} needs a column 'value' (and may have 'name' and 'colour')")
        name_column = fields.get("name") or fields.get("label")
        colour_column = fields.get("colour") or fields.get("color")
        rows: list[ClassRow] = []
        for line, record in enumerate(reader, start=2):
            try:
                value = int((record[column] or "").strip())
                name = (record.get(name_column or "") or str(value)).strip()
                colour = (record.get(colour_column or "") or PALETTE[len(rows) % len(PALETTE)]).strip()
                rows.append(ClassRow(len(rows), value, name, colour.lower()))
            except ValueError as error:
                raise DltsError(f"{where}, line {line}: {error}") from error
        if not rows:
            raise DltsError(f"{where} names no class: give one row for each")
        try:
            return cls(tuple(rows))
        except ValueError as error:
            raise DltsError(f"{where}: {error}") from error

    @classmethod
    def from_labels(cls, labels: Iterable[int] | Iterable[str]) -> ClassTable:
        """Make a table of the distinct labels: integers by value, texts by code point (values 0..n-1).

        Integers may be numpy's.

        Raises:
            DltsError: an integer label lies outside 0..65534.
        """
        distinct: Sequence[int | str] = sorted(set(labels))
        rows: list[ClassRow] = []
        for index, label in enumerate(distinct):
            value = index if isinstance(label, str) else operator.index(label)
            name = str(label) if isinstance(label, str) else str(value)
            try:
                rows.append(ClassRow(index, value, name, PALETTE[index % len(PALETTE)]))
            except ValueError as error:
                raise DltsError(f"labels cannot be class values: {error}") from error
        return cls(tuple(rows))
