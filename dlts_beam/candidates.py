"""From features and their pixels to candidates: labels, intervals, duplicates; every loss is entered."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dlts_beam.accounts import (
    CONFLICT,
    DUPLICATE,
    FEATURE,
    NO_LABEL,
    NO_TIME_STEP,
    OUTSIDE,
    PIXEL,
    UNKNOWN_LABEL,
    Accounts,
    Rejected,
)
from dlts_beam.errors import DltsError
from dlts_beam.grid import Grid
from dlts_beam.intervals import Cut, Interval, cut_series, nominal_steps, whole_series
from dlts_beam.labels import MISSING, UNKNOWN, Label, check_count, class_ids, class_table
from dlts_beam.sampling import Candidates, centres, resolve
from dlts_beam.spec.classes import ClassTable
from dlts_beam.spec.series import SeriesSpec, TimeStep

EXAMPLES = 3  # places named in a message


@dataclass(frozen=True)
class Places:
    """Features of a vector file and the pixels that they name.

    Attributes:
        labels: one for each feature, None where there is none.
        kept: per kept attribute one text for each feature.
        intervals: one for each feature, None where it has none; empty without interval columns.
        x, y: float64 (features,), a place of each feature for people; NaN where there is none.
        feature, row, col: int64 (N,), the pixels named, all in the grid, in the order of features.
        refused: features without any pixel, and places of multipoints outside the grid.
        source_crs: name of the vector file's CRS.
    """

    labels: list[Label | None]
    kept: tuple[tuple[str, ...], ...]
    intervals: tuple[Interval | None, ...]
    x: np.ndarray
    y: np.ndarray
    feature: np.ndarray
    row: np.ndarray
    col: np.ndarray
    refused: tuple[Rejected, ...]
    source_crs: str


@dataclass(frozen=True)
class Chosen:
    """What step 2 is going to cut out.

    Attributes:
        candidates: one for each pixel and cut.
        classes: the class table.
        cuts: as `Candidates.cut` counts them.
        steps: time steps that stand for those of all samples.
        accounts: rejections so far.
        features_used: features with a candidate pixel.
        pixels: candidate pixels in all, rejected ones too.
    """

    candidates: Candidates
    classes: ClassTable
    cuts: tuple[Cut, ...]
    steps: tuple[TimeStep, ...]
    accounts: Accounts
    features_used: int
    pixels: int


def choose_candidates(
    places: Places,
    series: SeriesSpec,
    column: str,
    table: ClassTable | None = None,
    num_classes: int | None = None,
    slots: int | None = None,
) -> Chosen:
    """Settle labels, intervals and pixels that are named twice.

    Args:
        places: features and pixels.
        series: the series they are cut from.
        column: of the labels, for messages.
        table: the classes wanted; None takes those of the features in the grid.
        num_classes: how many there must be.
        slots: time steps of each sample where features have intervals; None takes the most there are.

    Raises:
        DltsError: all features are outside, labels or their number are wrong, or no pixel is left.
    """
    accounts = Accounts()
    alive = np.zeros(len(places.labels), bool)
    alive[places.feature] = True
    if not alive.any():
        raise DltsError(_why_none(places, series.grid))
    if table is None:
        found = [
            label for label, ok in zip(places.labels, alive.tolist(), strict=True) if ok and label is not None
        ]
        table = class_table(found, column)
    check_count(table, num_classes, column)
    classes = class_ids(places.labels, table)
    for reason, code in ((NO_LABEL, MISSING), (UNKNOWN_LABEL, UNKNOWN)):
        _drop_features(accounts, places, alive, classes == code, reason)
    cut_of, cuts = _cuts(places, series, alive, slots)
    _drop_features(accounts, places, alive, cut_of < 0, NO_TIME_STEP)
    if not alive.any():
        told = {part.reason for part in accounts.parts}
        raise DltsError(f"no feature in the grid can be used: {', '.join(sorted(told))}")
    lost = 0
    for part in places.refused:
        # Single places of a feature that is refused as a whole are told of once, with the feature.
        kept = part if part.ledger == FEATURE else part.take(alive[part.feature])
        accounts.reject(kept)
        lost += len(kept.feature) if kept.ledger == PIXEL else 0
    used = alive[places.feature]
    feature = places.feature[used]
    pixels = Candidates(feature, places.row[used], places.col[used], classes[feature], cut_of[feature])
    resolved = resolve(pixels)
    for reason, index in ((DUPLICATE, resolved.duplicate), (CONFLICT, resolved.conflict)):
        accounts.reject(rejected_pixels(reason, pixels.take(index), series.grid))
    candidates = pixels.take(resolved.kept)
    if not len(candidates):
        raise DltsError(f"no sample is left: all {len(pixels)} pixels have conflicting labels")
    steps = (
        series.steps
        if len(cuts) == 1 and cuts[0].interval is None
        else nominal_steps([cuts[cut] for cut in candidates.cut.tolist()], series)
    )
    return Chosen(candidates, table, cuts, steps, accounts, int(alive.sum()), len(pixels) + lost)


def rejected_pixels(reason: str, pixels: Candidates, grid: Grid) -> Rejected:
    """Candidate pixels that become no sample."""
    x, y = centres(grid, pixels.row, pixels.col)
    return Rejected(PIXEL, reason, pixels.feature, x, y, pixels.row, pixels.col)


def _drop_features(
    accounts: Accounts, places: Places, alive: np.ndarray, refused: np.ndarray, reason: str
) -> None:
    """Refuse features that were still alive."""
    numbers = np.flatnonzero(alive & refused)
    alive[numbers] = False
    accounts.reject(Rejected.features(reason, numbers, places.x[numbers], places.y[numbers]))


def _cuts(
    places: Places, series: SeriesSpec, alive: np.ndarray, slots: int | None
) -> tuple[np.ndarray, tuple[Cut, ...]]:
    """int64 (features,), the cut of each feature or -1, and the cuts."""
    if not places.intervals:
        if slots is not None:
            raise DltsError(
                "--steps goes with --start-column and --end-column; without them a sample takes all"
            )
        return np.zeros(len(alive), np.int64), (whole_series(series),)
    wanted = [
        interval for interval, ok in zip(places.intervals, alive.tolist(), strict=True) if ok and interval
    ]
    cuts = cut_series(series, wanted, slots)
    number = {interval: index for index, interval in enumerate(cuts)}
    of = [-1 if interval is None else number.get(interval, -1) for interval in places.intervals]
    return np.array(of, np.int64), tuple(cuts.values())


def _why_none(places: Places, grid: Grid) -> str:
    """The sentence for a file of which no feature names a pixel."""
    reasons = sorted({part.reason for part in places.refused})
    if reasons != [OUTSIDE]:
        return f"none of the {len(places.labels)} features can be used: {', '.join(reasons)}"
    left, bottom, right, top = grid.bounds()
    examples = ", ".join(
        f"({x:g}, {y:g})"
        for x, y in zip(places.x[:EXAMPLES].tolist(), places.y[:EXAMPLES].tolist(), strict=True)
    )
    return (
        f"all {len(places.labels)} features lie outside the series, which covers x {left:g} to {right:g} and"
        f" y {bottom:g} to {top:g}; reprojected from {places.source_crs} to the series' CRS the first are at"
        f" {examples}: check the CRS of the samples (--samples-crs)"
    )
