"""The two ledgers of step 2: what became of every feature, and of every candidate pixel."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from dlts_beam.errors import DltsError
from dlts_beam.spec.samples import Ledger

# Why a feature gives no candidate pixel.
NO_GEOMETRY = "null or invalid geometry"
UNSUPPORTED = "neither point nor polygon"
NO_LABEL = "no label"
UNKNOWN_LABEL = "unknown label"
NO_PIXEL = "no pixel centre inside"
NO_TIME_STEP = "no time step in its interval"
# Why a feature, or one place of a multipoint, gives none.
OUTSIDE = "outside the grid"
# Why a candidate pixel gives no sample.
DUPLICATE = "duplicate"
CONFLICT = "conflicting labels"
FEW_VALID = "too few valid observations"
UNREADABLE = "unreadable source"

FEATURE = "feature"
PIXEL = "pixel"
REJECTED_HEADER = ("ledger", "feature", "x", "y", "row", "col", "label", "reason")


@dataclass(frozen=True)
class Rejected:
    """Entries of one ledger that share a reason.

    Attributes:
        ledger: ``feature`` or ``pixel``.
        reason: one of the texts above.
        feature: int64 (N,), numbers in the vector file.
        x, y: float64 (N,), map coordinates; NaN where there are none.
        row, col: int64 (N,), -1 where there are none.
    """

    ledger: str
    reason: str
    feature: np.ndarray
    x: np.ndarray
    y: np.ndarray
    row: np.ndarray
    col: np.ndarray

    @classmethod
    def features(cls, reason: str, feature: np.ndarray, x: np.ndarray, y: np.ndarray) -> Rejected:
        """Whole features."""
        none = np.full(len(feature), -1, np.int64)
        return cls(FEATURE, reason, feature, x, y, none, none)

    def take(self, index: np.ndarray) -> Rejected:
        """Those at the given positions (or where a bool array is True)."""
        parts = (self.feature, self.x, self.y, self.row, self.col)
        return Rejected(self.ledger, self.reason, *(part[index] for part in parts))


@dataclass
class Accounts:
    """Collects rejections on the launcher and balances them against what came in."""

    parts: list[Rejected] = field(default_factory=list)

    def reject(self, part: Rejected) -> None:
        """Enter rejections; none at all leaves no trace."""
        if len(part.feature):
            self.parts.append(part)

    def ledger(self, name: str, total: int, used: int) -> Ledger:
        """The balanced ledger.

        Raises:
            DltsError: something was lost or counted twice; a defect of ours or of the runner.
        """
        counts: Counter[str] = Counter()
        for part in self.parts:
            if part.ledger == name:
                counts[part.reason] += len(part.feature)
        try:
            return Ledger(total, used, dict(sorted(counts.items())))
        except ValueError as error:
            raise DltsError(f"the ledger of {name}s does not balance: {error}; please report this") from error

    def to_csv(self, labels: Sequence[int | str | None]) -> str:
        """``rejected.csv``, in the order of features; ``labels`` has one for each feature."""
        rows = []
        for part in self.parts:
            columns = (part.feature, part.x, part.y, part.row, part.col)
            for feature, x, y, row, col in zip(*(column.tolist() for column in columns), strict=True):
                place = (_number(x), _number(y), "" if row < 0 else row, "" if col < 0 else col)
                label = labels[feature]
                rows.append((part.ledger, feature, *place, "" if label is None else label, part.reason))
        rows.sort(key=lambda entry: (entry[0], entry[1], str(entry[4:6]), entry[7], entry[2:4]))
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(REJECTED_HEADER)
        writer.writerows(rows)
        return text.getvalue()


def _number(value: float) -> str:
    return repr(value) if np.isfinite(value) else ""


def ledger_text(name: str, ledger: Ledger) -> str:
    """One ledger as lines for people."""
    lines = [f"{name}: {ledger.total} in, {ledger.used} used"]
    lines += [f"  {count} rejected: {reason}" for reason, count in ledger.rejected.items()]
    return "\n".join(lines)
