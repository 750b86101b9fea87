"""Does a model fit a series? Bands by name, number of time steps, days of the year, the timeline."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Sequence

import numpy as np

from dlts_beam.errors import DltsError
from dlts_beam.spec import ModelSpec, SeriesSpec, Timeline, TimeStep
from dlts_beam.spec.series import EPOCH
from dlts_beam.tensors.timeline import timeline_days

DATE_TOLERANCE = 8.0
YEAR = 365.25
_ROUNDING = 1e-6  # days: a timeline that was made to end with the series may miss its end by so much


def check_fit(series: SeriesSpec, model: ModelSpec, tolerance: float = DATE_TOLERANCE) -> list[str]:
    """Return notes for the user (what could not be compared); an empty list when all was compared.

    The year and the data type may differ; bands are found by name, so their order may differ too.

    Args:
        tolerance: days by which a time step's day of the year may differ from the model's.

    Raises:
        DltsError: the model does not fit; the sentence says in what.
    """
    _check_bands(series, model)
    if model.preparation.timeline is not None:
        return _check_timeline(series, model, tolerance)
    return _check_steps(series, model, tolerance)


def select_interval(series: SeriesSpec, model: ModelSpec, start: dt.date) -> SeriesSpec:
    """The interval of a long series that a seasonal model classifies: from the first time step at ``start``.

    A model with a regular timeline takes the time steps that its timeline spans, any other as many
    time steps as it was trained on. Interpolation needs an observation at or after its last target: the
    first such time step belongs to the interval, however late it is.

    Raises:
        DltsError: the series has no dates, begins long after ``start``, or has too few time steps from
            there on.
    """
    if not series.dated:
        raise DltsError("--start needs a series with dates: this one only has numbered time steps")
    first = (dt.datetime.combine(start, dt.time()) - EPOCH).days
    days = series.days
    chosen = np.flatnonzero(days >= first)
    if not len(chosen):
        raise DltsError(
            f"the series has no time step on or after {start}: its last is {series.steps[-1].label}"
        )
    # Between two time steps any day may be meant; before the first one, no more of them than that.
    late, usual = days[0] - first, max([DATE_TOLERANCE, *np.diff(days)])
    if late > usual:
        raise DltsError(
            f"the series begins at {series.steps[0].label}, {late:.0f} days after --start {start}: it does"
            " not have that interval"
        )
    timeline = model.preparation.timeline
    if timeline is None:
        wanted = model.serving.time_steps
        if len(chosen) < wanted:
            raise DltsError(
                f"the model takes {wanted} time steps, and the series has only {len(chosen)} from {start} on:"
                " choose an earlier --start"
            )
        chosen = chosen[:wanted]
    else:
        end = timeline_days(timeline, days[chosen])[-1]
        count = int(np.searchsorted(days[chosen], end + timeline.step, side="right"))
        if timeline.method == "interpolate":
            count = max(count, int(np.searchsorted(days[chosen], end)) + 1)
        chosen = chosen[:count]
    return keep_steps(series, [int(step) for step in chosen])


def keep_steps(series: SeriesSpec, steps: Sequence[int]) -> SeriesSpec:
    """The series with only these time steps, renumbered from 0, and only the files they need."""
    masks = series.mask_sources
    used = sorted(
        {
            source.file
            for step in steps
            for layer in (*series.sources[step], masks[step] if masks else ())
            for source in layer
        }
    )
    place = {file: number for number, file in enumerate(used)}

    def moved(layer: tuple) -> tuple:
        return tuple(dataclasses.replace(source, file=place[source.file]) for source in layer)

    return dataclasses.replace(
        series,
        steps=tuple(TimeStep(number, series.steps[step].time) for number, step in enumerate(steps)),
        files=tuple(series.files[file] for file in used),
        sources=tuple(tuple(moved(layer) for layer in series.sources[step]) for step in steps),
        mask_sources=tuple(moved(masks[step]) for step in steps) if masks else (),
    )


def _check_bands(series: SeriesSpec, model: ModelSpec) -> None:
    have = [band.name for band in series.bands]
    missing = [name for name in model.preparation.bands if name not in have]
    if missing:
        raise DltsError(
            f"the model does not fit the series: it needs band {', '.join(missing)}, and the series has"
            f" {', '.join(have)}"
        )


def _check_steps(series: SeriesSpec, model: ModelSpec, tolerance: float) -> list[str]:
    wanted, found = len(model.steps), len(series.steps)
    if found != wanted:
        raise DltsError(
            f"the model does not fit the series: it was trained on {wanted} time steps, and the series has"
            f" {found}" + ("; --start DATE chooses an interval of a longer series" if found > wanted else "")
        )
    if not series.dated or not dated(model.steps):
        which = "the model" if series.dated else "the series"
        return [f"{which} has no dates: only the number of time steps was compared with the other's"]
    pair = first_apart(series.steps, model.steps, tolerance)
    if pair is not None:
        ours, theirs = pair
        raise DltsError(
            f"the model does not fit the series: time step {ours.number} is of {ours.label}, the model's"
            f" of {theirs.label}, {_apart(ours, theirs):.0f} days apart in the year, and --date-tolerance"
            f" allows {tolerance:g}"
        )
    return []


def _check_timeline(series: SeriesSpec, model: ModelSpec, tolerance: float) -> list[str]:
    timeline = model.preparation.timeline
    assert timeline is not None
    if series.dated != dated(model.steps):
        who = "the model" if series.dated else "the series"
        raise DltsError(
            f"the model does not fit the series: its regular timeline counts in days, and {who} has no dates"
        )
    ends = uncovered(timeline, series.steps, tolerance)
    if ends is not None:
        raise DltsError(
            f"the model does not fit the series: its timeline runs from {ends[0]} to {ends[1]}, and the"
            f" series from {series.steps[0].label} to {series.steps[-1].label}"
        )
    apart = seasons_apart(timeline, series.steps, model.steps, tolerance)
    if apart is not None:
        raise DltsError(
            f"the model does not fit the series: the series begins at {series.steps[0].label}, the model's at"
            f" {model.steps[0].label}, {apart:.0f} days apart in the year; choose the interval with --start"
        )
    return []


def dated(steps: Sequence[TimeStep]) -> bool:
    """Whether every time step has a time."""
    return all(step.time is not None for step in steps)


def first_apart(
    steps: Sequence[TimeStep], others: Sequence[TimeStep], tolerance: float = DATE_TOLERANCE
) -> tuple[TimeStep, TimeStep] | None:
    """The first two time steps of one number whose days of the year are more than ``tolerance`` days apart.

    Returns:
        None where there are none, and where one side has no dates to compare.
    """
    if not (dated(steps) and dated(others)):
        return None
    return next((pair for pair in zip(steps, others, strict=True) if _apart(*pair) > tolerance), None)


def uncovered(
    timeline: Timeline, steps: Sequence[TimeStep], tolerance: float = DATE_TOLERANCE
) -> tuple[str, str] | None:
    """First and last date of a timeline that reaches beyond a series; None where its time steps cover it."""
    days = np.array([step.day for step in steps], np.float64)
    targets = timeline_days(timeline, days)
    half = 0.0 if timeline.method == "interpolate" else timeline.step / 2
    first, last = float(targets[0]) - half, float(targets[-1]) + half
    after = max(tolerance, half * 2) + _ROUNDING
    if days[0] - tolerance - _ROUNDING <= first and last <= days[-1] + after:
        return None
    return _date(first, dated(steps)), _date(last, dated(steps))


def seasons_apart(
    timeline: Timeline,
    steps: Sequence[TimeStep],
    others: Sequence[TimeStep],
    tolerance: float = DATE_TOLERANCE,
) -> float | None:
    """Days of the year between the beginnings of two series where a relative timeline asks for one season.

    Returns:
        None where the timeline takes both: it names days of the year itself, there are no dates to compare,
        or the series begin within a step, or within ``tolerance`` days, of each other.
    """
    if not timeline.relative or not (dated(steps) and dated(others)):
        return None
    apart = _apart(steps[0], others[0])
    return apart if apart > max(tolerance, timeline.step) else None


def day_of_year_distance(first: float, second: float) -> float:
    """Days between two days (since 1970) when the year is ignored: 0 to 183."""
    apart = (first - second) % YEAR
    return min(apart, YEAR - apart)


def _apart(first: TimeStep, second: TimeStep) -> float:
    return day_of_year_distance(first.day, second.day)


def _date(day: float, is_dated: bool) -> str:
    try:
        return str((EPOCH + dt.timedelta(days=day)).date()) if is_dated else f"day {day:g}"
    except OverflowError:  # beyond the year 9999
        return f"{day:.0f} days after {EPOCH.date()}"
