"""Acquisition times: found in file names, read from metadata and tables, and put in order."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum

from dlts_beam.errors import DltsError

FIRST_YEAR, LAST_YEAR = 1960, 2099


class Precision(IntEnum):
    """How a stamp is written; a lower one is trusted before a higher one."""

    DAY = 0
    ORDINAL = 1  # year and day of year
    MONTH = 2
    YEAR = 3


@dataclass(frozen=True)
class Stamp:
    """A date found in a text.

    Attributes:
        precision: how it is written.
        moment: the time it stands for; months and years stand for their first day.
        has_time: whether a time of day was read.
        loose: the time of day is only a group of six digits after the date, and may be something else.
        start, end: where it stands in the text.
    """

    precision: Precision
    moment: dt.datetime
    has_time: bool
    loose: bool
    start: int
    end: int

    @property
    def iso(self) -> str:
        """ISO text: a date, or date and time where the time of day is known."""
        return iso_text(self.moment, self.has_time)


class AmbiguousDatesError(DltsError):
    """The names hold no dates, or dates that can be understood in several ways."""


# Hours, minutes and optional seconds, after a T (always a time) or after _ or - (only perhaps one: the
# year and the month of another date, such as 2018-01-16, are none).
_TIME = r"(?:_?[Tt ](?P<h>\d\d)[:.-]?(?P<i>\d\d)(?:[:.-]?(?P<s>\d\d)(?:\.\d+)?)?Z?(?!\d))?"
_NEXT_DATE = r"(?:19[6-9]\d|20\d\d)(?P<next>[:.-])(?:0[1-9]|1[0-2])(?P=next)(?:0?[1-9]|[12]\d|3[01])(?!\d)"
_LOOSE = rf"(?:[_-](?!{_NEXT_DATE})(?P<lh>\d\d)[:.-]?(?P<li>\d\d)[:.-]?(?P<ls>\d\d)(?!\d))?"
_FORMS: tuple[tuple[Precision, re.Pattern[str]], ...] = tuple(
    (precision, re.compile(form))
    for precision, form in (
        (Precision.DAY, r"(?<!\d)(?P<y>\d{4})(?P<m>\d\d)(?P<d>\d\d)(?P<h>\d\d)(?P<i>\d\d)(?P<s>\d\d)?(?!\d)"),
        (Precision.DAY, r"(?<!\d)(?P<y>\d{4})(?P<m>\d\d)(?P<d>\d\d)(?!\d)" + _TIME + _LOOSE),
        (
            Precision.DAY,
            r"(?<!\d)(?P<y>\d{4})(?P<sep>[-_.:/])(?P<m>\d\d?)(?P=sep)(?P<d>\d\d?)(?!\d)" + _TIME + _LOOSE,
        ),
        (Precision.ORDINAL, r"(?<!\d)(?P<y>\d{4})(?P<j>\d{3})(?P<h>\d\d)(?P<i>\d\d)(?P<s>\d\d)(?!\d)"),
        (Precision.ORDINAL, r"(?<!\d)(?P<y>\d{4})-?(?P<j>\d{3})(?!\d)" + _TIME),
        # Landsat's names before 2016: sensor, path and row, then the date in one run of digits.
        (Precision.ORDINAL, r"(?<=L[COTEM]\d\d{6})(?P<y>\d{4})(?P<j>\d{3})(?=[A-Z]{3}\d\d)"),
        (Precision.MONTH, r"(?<!\d)(?P<y>\d{4})[-_.](?P<m>\d\d?)(?!\d)"),
        (Precision.MONTH, r"(?<!\d)(?P<y>\d{4})(?P<m>\d\d)(?!\d)"),
        (Precision.YEAR, r"(?<!\d)(?P<y>\d{4})(?!\d)"),
    )
)


def iso_text(moment: dt.datetime, has_time: bool) -> str:
    """ISO text of a date, or of date and time."""
    return moment.isoformat() if has_time else moment.date().isoformat()


def natural_key(text: str) -> tuple[tuple[str | int, ...], str]:
    """Sort key that compares runs of digits as numbers: ``ts_b2`` comes before ``ts_b10``."""
    parts = re.split(r"(\d+)", text.casefold())
    return tuple(int(part) if number % 2 else part for number, part in enumerate(parts)), text


def find_stamps(text: str) -> list[Stamp]:
    """Return the dates in a text from left to right; where two readings overlap, the more precise one."""
    found: list[Stamp] = []
    for precision, form in _FORMS:
        for match in form.finditer(text):
            stamp = _read(precision, match)
            if stamp and not any(stamp.start < other.end and other.start < stamp.end for other in found):
                found.append(stamp)
    return sorted(found, key=lambda stamp: stamp.start)


def parse_stamp(text: str) -> Stamp | None:
    """Return the date that the whole text is, in one of the forms that file names may hold, or None."""
    for stamp in find_stamps(text):
        if stamp.start == 0 and stamp.end == len(text):
            return stamp
    moment = _iso_moment(text)
    if moment is None or moment.utcoffset():
        return None
    moment = moment.replace(tzinfo=None, microsecond=0)
    return Stamp(Precision.DAY, moment, has_time=True, loose=False, start=0, end=len(text))


def parse_time(text: str) -> str | None:
    """Return the ISO date or time that the whole text stands for, or None.

    Takes all the forms that file names may hold, and ISO times with zones (turned into UTC).
    """
    text = text.strip().strip("'\"")
    stamp = parse_stamp(text)
    if stamp is not None:
        return stamp.iso
    moment = _iso_moment(text)
    if moment is None:
        return None
    return iso_text(moment.astimezone(dt.UTC).replace(tzinfo=None, microsecond=0), True)


def _iso_moment(text: str) -> dt.datetime | None:
    if not re.match(r"\d{4}-\d\d-\d\d[T ]", text):
        return None
    try:
        return dt.datetime.fromisoformat(text)
    except ValueError:
        return None


def choose_stamps(names: Sequence[str]) -> list[Stamp]:
    """Return the acquisition date of each name: the same place in all of them.

    A date that is the same in all names says nothing when another one varies. Where several vary, the
    acquisition is the one that comes first in time in every name (products are processed afterwards,
    and periods begin before they end).

    Raises:
        AmbiguousDatesError: some name holds no date, or no date is the earliest one everywhere.
    """
    stamps = [find_stamps(name) for name in names]
    without = [name for name, found in zip(names, stamps, strict=True) if not found]
    if without:
        more = f" and {len(without) - 1} more" if len(without) > 1 else ""
        raise AmbiguousDatesError(f"the file name {without[0]!r}{more} holds no date")
    constant: list[list[Stamp]] = []
    for precision in Precision:
        if precision is Precision.YEAR and constant:
            break  # four digits are only taken for a year where nothing better is there
        slots = list(_slots(stamps, precision))
        varying = [slot for slot in slots if len({stamp.moment for stamp in slot}) > 1]
        if varying:
            return without_idle_times(_earliest(varying, names))
        constant += slots
    if not constant:
        raise AmbiguousDatesError(
            f"the file names hold dates of different kinds, such as {names[0]!r} and {names[-1]!r}"
        )
    return without_idle_times(constant[0])


def _slots(stamps: Sequence[Sequence[Stamp]], precision: Precision) -> Iterator[list[Stamp]]:
    """Yield the first, second … stamp of a precision of all names, as many as every name has."""
    alike = [[stamp for stamp in found if stamp.precision is precision] for found in stamps]
    for position in range(min(len(found) for found in alike)):
        yield [found[position] for found in alike]


def _earliest(slots: list[list[Stamp]], names: Sequence[str]) -> list[Stamp]:
    for slot in slots:
        if all(
            stamp.moment <= other.moment for rival in slots for stamp, other in zip(slot, rival, strict=True)
        ):
            return slot
    raise AmbiguousDatesError(
        f"the file names hold {len(slots)} dates each, and none of them is always the earliest,"
        f" as in {names[0]!r}"
    )


def without_idle_times(slot: Sequence[Stamp]) -> list[Stamp]:
    """Drop times of day that are none: midnight everywhere, or the same loose digits in all names."""
    times = {stamp.moment.time() for stamp in slot if stamp.has_time}
    loose = all(stamp.loose for stamp in slot) and len(slot) > 1 and len(times) == 1
    if not loose and times != {dt.time()}:
        return list(slot)
    return [
        Stamp(
            stamp.precision,
            dt.datetime.combine(stamp.moment.date(), dt.time()),
            False,
            False,
            stamp.start,
            stamp.end,
        )
        for stamp in slot
    ]


def _read(precision: Precision, match: re.Match[str]) -> Stamp | None:
    """The stamp of a match, or None where its numbers are no date."""
    groups = {name: int(text) for name, text in match.groupdict().items() if text and name != "sep"}
    if not FIRST_YEAR <= groups["y"] <= LAST_YEAR:
        return None
    try:
        if "j" in groups:
            moment = dt.datetime.strptime(f"{groups['y']} {groups['j']}", "%Y %j")
        else:
            moment = dt.datetime(groups["y"], groups.get("m", 1), groups.get("d", 1))
    except ValueError:
        return None
    start, end = match.span()
    loose = "lh" in groups
    has_time = loose or "h" in groups
    if has_time:
        prefix = "l" if loose else ""
        hour, minute, second = (groups.get(prefix + unit, 0) for unit in "his")
        if hour < 24 and minute < 60 and second < 60:
            moment = moment.replace(hour=hour, minute=minute, second=second)
        elif match.group(0).isdigit():
            return None  # a long number, not a date
        else:
            # The digits after the date are something else: the stamp ends with the date.
            end = match.end("j") if "j" in groups else match.end("d")
            loose = has_time = False
    return Stamp(precision, moment, has_time, loose, start, end)
