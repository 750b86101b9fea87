"""The form of file names that a user gives (``--pattern``): where the date and the band stand."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from dlts_beam.dates import Stamp, find_stamps, parse_stamp, without_idle_times
from dlts_beam.errors import DltsError

_ANY = {"{band}": "(?P<band>[^/]+?)", "*": ".*?"}
# A date is digits and what may stand between them; lazy, so that the rest is left to the pattern.
_DATE = r"(?P<date>\d[\dTtZ:._ -]*?\d?Z?)"
_YEAR = re.compile(r"(?=(?:19|20)\d\d)")
_DATE_TEXT = re.compile(r"[\dTtZ:._ -]+")
_LONGEST = len("2018-08-12T10:15:30.123456Z")


@dataclass(frozen=True)
class NamedParts:
    """What a dated pattern finds in one file name: the ISO time, and the band where the pattern has one."""

    time: str
    band: str | None


@dataclass(frozen=True)
class _Split:
    """One way to read a name: its stamp, which knows where in the name it stands, and its band."""

    stamp: Stamp
    band: str | None

    def overlaps(self, other: _Split) -> bool:
        return self.stamp.start < other.stamp.end and other.stamp.start < self.stamp.end

    @property
    def length(self) -> int:
        return self.stamp.end - self.stamp.start


@dataclass(frozen=True)
class _DatedPattern:
    """A pattern cut at its {date}: what may stand before it and after it."""

    before: tuple[str, ...]
    after: tuple[str, ...]

    @cached_property
    def _sides(self) -> tuple[re.Pattern[str], re.Pattern[str]]:
        before, after = (re.compile(_expression(parts, _ANY)) for parts in (self.before, self.after))
        return before, after

    def splits(self, text: str) -> Iterator[_Split]:
        """Every way to read the name in which {date} is a date as a whole."""
        before, after = self._sides
        # Where a free part stands beside the date, no run of digits is cut: the pattern does not say where.
        free_left = len(self.before) > 1 and not self.before[-1]
        free_right = len(self.after) > 1 and not self.after[0]
        for year in _YEAR.finditer(text):
            start = year.start()
            left = before.fullmatch(text, 0, start)
            reach = _DATE_TEXT.match(text, start)
            if left is None or reach is None:
                continue
            for end in range(start + 4, min(reach.end(), start + _LONGEST) + 1):
                right = after.fullmatch(text, end) if text[end - 1] not in "Tt:._ -" else None
                if right is None:
                    continue
                cut = (free_left and text[start - 1 : start].isdigit()) or (
                    free_right and text[end : end + 1].isdigit()
                )
                # Some products write their date in one run with other digits, and are known for it.
                if cut and (start, end) not in {(stamp.start, stamp.end) for stamp in find_stamps(text)}:
                    continue
                stamp = parse_stamp(text[start:end])
                if stamp is not None and not (stamp.loose and _begins_date(text, start, end)):
                    groups = left.groupdict() | right.groupdict()
                    yield _Split(replace(stamp, start=start, end=end), groups.get("band"))


def pattern_expression(pattern: str, undated: bool) -> re.Pattern[str]:
    """The regular expression of a pattern: ``{date}`` and ``{band}`` are parts, ``*`` is any text.

    Raises:
        DltsError: the pattern has other parts, or no {date} in a dated series.
    """
    parts = _parts(pattern)
    known = {"{date}": "(?P<date>.+?)" if undated else _DATE, **_ANY}
    unknown = [part for part in parts[1::2] if part not in known]
    if unknown:
        raise DltsError(f"--pattern has {unknown[0]}: its parts are {{date}}, {{band}} and * for anything")
    for name in ("{date}", "{band}"):
        if parts.count(name) > 1:
            raise DltsError(f"--pattern has {name} twice: give it once, and * for the other place")
    if "{date}" not in parts and not undated:
        raise DltsError("--pattern has no {date}: say where the date stands, or give --undated")
    return re.compile(_expression(parts, known))


def match_parts(pattern: str, forms: Sequence[str], undated: bool) -> dict[str, str] | None:
    """The parts (``date``, ``band``) of the first of several forms of one name that fits, or None.

    In a dated series the part ``date`` looks like one and need not be one: `dated_parts` finds the date.

    Raises:
        DltsError: as for `pattern_expression`.
    """
    expression = pattern_expression(pattern, undated)
    for text in forms:
        match = expression.fullmatch(text)
        if match is not None:
            return {name: part for name, part in match.groupdict().items() if part is not None}
    return None


def dated_parts(pattern: str, names: Mapping[str, Sequence[str]]) -> list[NamedParts]:
    """Return the time and the band of each name: all dates are written alike, and as fully as all allow.

    A name may be read in several ways: ``2016_10_b1`` is January 2016 with band 10_b1 or October 2016 with
    band b1. The date that counts is of the finest precision that every name offers (each name's own finest
    where there is none), and the longest one of those at its place.

    Args:
        pattern: with {date}.
        names: file -> forms of its name, such as with and without extension; the first that fits counts.

    Raises:
        DltsError: the pattern is wrong; a name does not fit it, holds no date there, or holds two.
    """
    pattern_expression(pattern, False)  # refuses a wrong pattern
    parts = _parts(pattern)
    cut = parts.index("{date}")
    dated = _DatedPattern(tuple(parts[:cut]), tuple(parts[cut + 1 :]))
    readings = [_readings(dated, pattern, file, forms) for file, forms in names.items()]
    offered = [{split.stamp.precision for split in splits} for splits in readings]
    common = set.intersection(*offered) if offered else set()
    chosen = [
        _choose([split for split in splits if split.stamp.precision is min(common or own)], file)
        for file, splits, own in zip(names, readings, offered, strict=True)
    ]
    stamps = without_idle_times([split.stamp for split in chosen])
    return [NamedParts(stamp.iso, split.band) for stamp, split in zip(stamps, chosen, strict=True)]


def _readings(dated: _DatedPattern, pattern: str, file: str, forms: Sequence[str]) -> list[_Split]:
    """The ways to read the first form of a name that has any."""
    for text in forms:
        splits = list(dated.splits(text))
        if splits:
            return splits
    groups = match_parts(pattern, forms, False)
    if groups is None:
        raise DltsError(f"image {file} does not fit --pattern {pattern!r}")
    raise DltsError(
        f"--pattern finds {groups['date']!r} as the date of {file}, which is no date;"
        " write what stands before and after the date into the pattern"
    )


def _choose(splits: Sequence[_Split], file: str) -> _Split:
    """The reading that counts among those of one precision: the longest date at its place.

    Six digits after a date are a time of day only where the pattern does not fit without it, or where they
    would be part of a band's name.
    """
    plain = {(split.stamp.start, split.band) for split in splits if not split.stamp.has_time}
    splits = [s for s in splits if not (s.stamp.loose and (s.stamp.start, s.band) in plain)]
    kept: list[_Split] = []
    for split in sorted(splits, key=lambda split: -split.length):
        if not any(split.overlaps(other) for other in kept):
            kept.append(split)
    kept.sort(key=lambda split: split.stamp.start)
    other = next((split for split in kept if split.stamp.moment != kept[0].stamp.moment), None)
    if other is None:
        return kept[-1]
    if len({split.stamp.moment.date() for split in kept}) > 1:
        raise DltsError(
            f"--pattern finds two dates in {file}: {kept[0].stamp.iso} and {other.stamp.iso};"
            " write more of the name into the pattern, so that one of them is left for {date}"
        )
    return kept[0]  # a day's acquisition begins at the first time and ends at the last one


def _begins_date(text: str, start: int, end: int) -> bool:
    """True where the loose time at the end of text[start:end] is the beginning of another date."""
    if text[end : end + 1].isdigit():
        return False
    return all(stamp.end != end - start for stamp in find_stamps(text[start:]))


def _parts(pattern: str) -> list[str]:
    """Literal texts, empty ones too, and between them the parts {…} and *."""
    return re.split(r"(\{[^}]*\}|\*)", pattern)


def _expression(parts: Sequence[str], known: Mapping[str, str]) -> str:
    return "".join(known[part] if number % 2 else re.escape(part) for number, part in enumerate(parts))
