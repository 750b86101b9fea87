"""Which samples train, validate and test: a pure function of ids, classes, groups, seed and fractions.

Nothing here depends on the order of the samples or on chance: places are decided by SHA-256 digests of the
seed and the group's name, so the same samples get the same split on every machine and for every shard layout.
"""

from __future__ import annotations

import csv
import datetime as dt
import hashlib
import io
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dlts_beam.errors import DltsError

SPLITS = ("train", "validation", "test")
UNUSED = "unused"  # of samples whose quality is too low to train on
SPLITS_CSV = "splits.csv"
_ALIASES = {
    "train": "train", "training": "train", "validation": "validation", "val": "validation",
    "valid": "validation", "test": "test", "testing": "test",
}  # fmt: skip

_COLUMNS = ("id", "split", "class", "pixel", "season")
Texts = NDArray[np.str_]
Season = tuple[dt.date, dt.date]  # first and last date of a series


def assign_splits(
    class_ids: NDArray[np.int64], groups: Texts, seed: int, validation: float, test: float
) -> Texts:
    """Assign every sample to train, validation or test; a group stays whole.

    Stratified: where every sample is a group of its own, each class has round(n x fraction) samples in each
    part, and at least one where it has enough of them. Larger groups are placed one by one, in an order given
    by their digests, where their classes are missed most; class ratios then differ from the fractions by
    about one group.

    Args:
        class_ids: int64 (n,).
        groups: text (n,): samples of one group never stand on two sides.
        seed: decides the digests.
        validation, test: fractions; 0 leaves that part empty.

    Returns:
        Text (n,): one of ``SPLITS`` for each sample.

    Raises:
        DltsError: fractions that leave nothing for training.
    """
    check_fractions(validation, test)
    fractions = np.array([1 - validation - test, validation, test])
    names, group_of = np.unique(groups, return_inverse=True)
    digests = np.array([_digest(seed, str(name)) for name in names], np.uint64)
    if len(names) == len(groups):
        return _place_samples(class_ids, digests[group_of], fractions)
    parts = _place_groups(class_ids, group_of, digests, fractions)
    return np.array(SPLITS)[parts].astype("<U10")


def assign_folds(class_ids: NDArray[np.int64], groups: Texts, seed: int, folds: int) -> NDArray[np.int64]:
    """Fold 0 … folds - 1 of every sample, stratified by class; a group stays whole and no fold is empty.

    Raises:
        DltsError: there are fewer than two folds, or fewer groups than folds.
    """
    names, group_of = np.unique(groups, return_inverse=True)
    if not 2 <= folds <= len(names):
        raise DltsError(f"--folds must lie between 2 and the number of groups ({len(names)}); got {folds}")
    digests = np.array([_digest(seed, str(name)) for name in names], np.uint64)
    if len(names) < len(groups):
        return _place_groups(class_ids, group_of, digests, np.full(folds, 1 / folds), emptiest_first=True)
    out = np.empty(len(groups), np.int64)
    start = 0  # a class begins where the one before ended, so that the folds are of one size
    for class_id in np.unique(class_ids):
        members = np.flatnonzero(class_ids == class_id)
        members = members[np.argsort(digests[group_of[members]], kind="stable")]
        out[members] = (start + np.arange(len(members))) % folds
        start += len(members)
    return out


def check_fractions(validation: float, test: float) -> None:
    """Raises `DltsError` unless both lie in 0..1 and leave something for training."""
    for flag, value in (("-v/--validation-split", validation), ("-t/--test-split", test)):
        if not 0 <= value < 1:
            raise DltsError(f"{flag} must be a fraction from 0 up to, not including, 1; got {value:g}")
    if validation + test >= 1:
        raise DltsError(
            f"-v {validation:g} and -t {test:g} leave nothing for training: their sum must be below 1"
        )


def splits_from_column(values: Texts, column: str) -> Texts:
    """The split that the data already have, from the texts of a kept attribute.

    Raises:
        DltsError: a value is none of train, validation (or val) and test.
    """
    lower = np.char.lower(np.char.strip(values))
    unknown = sorted(
        {str(value) for value, text in zip(values, lower, strict=True) if str(text) not in _ALIASES}
    )
    if unknown:
        raise DltsError(
            f"attribute {column!r} (--split-column) must say train, validation or test for every sample; "
            f"it also says {', '.join(map(repr, unknown[:5]))}"
        )
    return np.array([_ALIASES[str(text)] for text in lower], np.str_)


def leave_out(splits: Texts, trusted: NDArray[np.bool_]) -> Texts:
    """Take training samples that are not trusted out of the training split.

    Validation and test keep all of theirs: a test without the difficult samples would flatter.
    """
    return np.where((splits == "train") & ~trusted, UNUSED, splits)


def check_splits(splits: Texts, class_ids: NDArray[np.int64], class_names: Sequence[str]) -> None:
    """Every part that is not empty must hold every class, or what is measured on it means nothing.

    Raises:
        DltsError: the training part is empty, or a class is missing from a part.
    """
    lower_quality = "lower --min-quality, " if (splits == UNUSED).any() else ""
    if not (splits == "train").any():
        raise DltsError(
            f"no sample is left for training: {lower_quality}lower -v and -t, or check --split-column"
        )
    for part in SPLITS:
        inside = splits == part
        if not inside.any():
            continue
        counts = np.bincount(class_ids[inside], minlength=len(class_names))
        missing = [name for name, count in zip(class_names, counts, strict=True) if not count]
        if missing:
            totals = np.bincount(class_ids, minlength=len(class_names))
            told = ", ".join(f"{name} ({totals[class_names.index(name)]} samples in all)" for name in missing)
            raise DltsError(
                f"the {part} split has no sample of {told}: a class needs samples, and groups, for every "
                f"split; add samples, leave the class out, {lower_quality * (part == 'train')}set -v 0 or "
                "-t 0, or choose smaller groups (--split-by sample)"
            )


def table(splits: Texts, class_ids: NDArray[np.int64], class_names: Sequence[str]) -> str:
    """Samples per class and part, as a table for people."""
    width = max(5, *(len(name) for name in class_names))
    parts = (*SPLITS, UNUSED) if (splits == UNUSED).any() else SPLITS
    wide = [max(8, len(part) + 1) for part in parts]

    def line(first: str, cells: Sequence[str | int]) -> str:
        return " ".join([f"{first:<{width}}", *(f"{cell:>{w}}" for cell, w in zip(cells, wide, strict=True))])

    lines = [line("class", parts)]
    for class_id, name in enumerate(class_names):
        lines.append(line(name, [int(((class_ids == class_id) & (splits == part)).sum()) for part in parts]))
    return "\n".join([*lines, line("all", [int((splits == part).sum()) for part in parts])])


class Line(NamedTuple):
    """A line of ``splits.csv``.

    Attributes:
        id, split: of the sample.
        pixel: names its pixel; None in a file that an older version wrote.
        season: first and last date of its series; None where it has no dates.
    """

    id: str
    split: str
    pixel: str | None = None
    season: Season | None = None


def to_csv(
    ids: Texts, splits: Texts, classes: Sequence[str], pixels: Texts, seasons: Sequence[Season | None]
) -> str:
    """``splits.csv``: id, split, class name, pixel and season (``2019-09-01/2020-08-28``) of every sample."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_COLUMNS)
    told = ["" if season is None else f"{season[0]}/{season[1]}" for season in seasons]
    writer.writerows(zip(ids.tolist(), splits.tolist(), classes, pixels.tolist(), told, strict=True))
    return text.getvalue()


def from_csv(text: str, where: str) -> list[Line]:
    """The lines of ``splits.csv``; one that an older version wrote, without pixel and season, is read too.

    Raises:
        DltsError: the file is not one of ours.
    """
    head, *rows = list(csv.reader(io.StringIO(text))) or [[]]
    if tuple(head) not in (_COLUMNS, _COLUMNS[:3]) or any(len(row) != len(head) for row in rows):
        raise DltsError(f"{where} is not a table of splits with the columns {', '.join(_COLUMNS)}")
    known = (*SPLITS, UNUSED)
    wrong = next((row for row in rows if row[1] not in known), None)
    if wrong is not None:
        raise DltsError(f"{where}: sample {wrong[0]} has the split {wrong[1]!r}; it must be one of {known}")
    if len(head) == 3:
        return [Line(row[0], row[1]) for row in rows]
    return [Line(row[0], row[1], row[3], _season(row[4], row[0], where)) for row in rows]


def _season(text: str, sample: str, where: str) -> Season | None:
    if not text:
        return None
    try:
        first, last = map(dt.date.fromisoformat, text.split("/"))
    except ValueError as error:
        raise DltsError(
            f"{where}: sample {sample} has the season {text!r}; it must look like 2019-09-01/2020-08-28"
        ) from error
    return first, last


def _digest(seed: int, name: str) -> int:
    return int.from_bytes(hashlib.sha256(f"{seed}:{name}".encode()).digest()[:8], "big")


def _place_samples(
    class_ids: NDArray[np.int64], digests: NDArray[np.uint64], fractions: NDArray[np.float64]
) -> Texts:
    """Per class in the order of digests: the first ones test, the next ones validate, the rest train."""
    out = np.full(len(class_ids), "train", "<U10")
    parts = np.count_nonzero(fractions)
    for class_id in np.unique(class_ids):
        members = np.flatnonzero(class_ids == class_id)
        members = members[np.argsort(digests[members], kind="stable")]
        least = 1 if len(members) >= parts else 0
        wanted = [max(least, round(len(members) * share)) if share else 0 for share in fractions[1:]]
        while sum(wanted) and len(members) - sum(wanted) < 1:
            wanted[int(np.argmax(wanted))] -= 1
        out[members[: wanted[1]]] = "test"
        out[members[wanted[1] : sum(wanted)]] = "validation"
    return out


def _place_groups(
    class_ids: NDArray[np.int64],
    group_of: NDArray[np.int64],
    digests: NDArray[np.uint64],
    fractions: NDArray[np.float64],
    emptiest_first: bool = False,
) -> NDArray[np.int64]:
    """One group after another goes to the part in which its classes are missed most; int64 (n,).

    With ``emptiest_first`` the part with the fewest samples is the first to get a group of the next class:
    then no part stays empty while there are as many groups as parts.
    """
    classes = int(class_ids.max()) + 1
    counts = np.zeros((len(digests), classes))
    np.add.at(counts, (group_of, class_ids), 1)
    totals = counts.sum(axis=0)
    weights = 1 / np.maximum(totals, 1)
    wanted = fractions[:, None] * totals
    open_parts = np.flatnonzero(fractions > 0)
    have = np.zeros_like(wanted)
    place = np.full(len(digests), -1)
    order = np.argsort(digests, kind="stable").tolist()

    def put(group: int, part: int) -> None:
        place[group] = part
        have[part] += counts[group]

    # First a group of every class for every part, the classes with the fewest groups before the others.
    for class_id in np.argsort((counts > 0).sum(axis=0), kind="stable"):
        if not totals[class_id]:
            continue
        in_turn = open_parts
        if emptiest_first:
            in_turn = open_parts[np.argsort(have[open_parts].sum(axis=1), kind="stable")]
        for part in in_turn:
            free = (
                [g for g in order if place[g] < 0 and counts[g, class_id]] if not have[part, class_id] else []
            )
            if free:
                put(min(free, key=lambda g: _cost(counts[g], have[part], wanted[part], weights)), int(part))
    for group in order:
        if place[group] < 0:
            costs = [_cost(counts[group], have[part], wanted[part], weights) for part in open_parts]
            put(group, int(open_parts[int(np.argmin(costs))]))
    return place[group_of]


def _cost(
    group: NDArray[np.float64],
    have: NDArray[np.float64],
    wanted: NDArray[np.float64],
    weights: NDArray[np.float64],
) -> float:
    """By how much the squared distance to the wanted class counts grows if the group joins a part."""
    return float((weights * (2 * (have - wanted) + group) * group).sum())
