"""Which time steps of a long series make up a sample's own series."""

from __future__ import annotations

import datetime as dt
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dlts_beam.dates import iso_text
from dlts_beam.errors import DltsError
from dlts_beam.spec.series import EPOCH, SeriesSpec, TimeStep

MISSING = -1
Interval = tuple[str, str]  # ISO start and end, both included


@dataclass(frozen=True)
class Cut:
    """One way through the series: for each slot the time step that fills it (-1: none) and its day."""

    steps: tuple[int, ...]
    days: tuple[float, ...]
    interval: Interval | None = None

    @property
    def slots(self) -> list[tuple[int, float]]:
        """(time step, day) of each slot."""
        return list(zip(self.steps, self.days, strict=True))


def whole_series(series: SeriesSpec) -> Cut:
    """All time steps: what every sample takes where features have no intervals."""
    return Cut(tuple(range(len(series.steps))), tuple(series.days.tolist()))


def check_interval(start: str, end: str) -> Interval:
    """The interval in one spelling, whatever ISO form it came in; a bare end date means that whole day.

    Midnight is told as the bare date: it means the same, and 20180101 must not be another interval.

    Raises:
        ValueError: not ISO dates, or the end lies before the start.
    """
    first, last = dt.datetime.fromisoformat(start), dt.datetime.fromisoformat(end)
    if last < first:
        raise ValueError(f"the interval {start} to {end} ends before it starts")
    return iso_text(first, first.time() != dt.time.min), iso_text(last, last.time() != dt.time.min)


def steps_within(series: SeriesSpec, interval: Interval) -> list[int]:
    """Time steps from the interval's start to its end, both included."""
    start, end = (dt.datetime.fromisoformat(text) for text in interval)
    if end.time() == dt.time.min:
        end += dt.timedelta(days=1, microseconds=-1)
    times = [dt.datetime.fromisoformat(step.time or "") for step in series.steps]
    return [number for number, time in enumerate(times) if start <= time <= end]


def cut_series(series: SeriesSpec, intervals: Sequence[Interval], length: int | None) -> dict[Interval, Cut]:
    """Cut the series for each distinct interval; every cut has the same number of slots.

    A cut with more time steps keeps the first ones. A cut with fewer leaves slots empty, those whose usual
    day after the interval's start (the median over the full cuts) is farthest from any of its own steps:
    a composite missing in mid-season stays a gap in mid-season.

    Args:
        series: a series with dates.
        intervals: one for each feature, repeated as often as they occur.
        length: slots of each cut; None takes the most time steps any interval has.

    Returns:
        The cut of each interval that holds a time step, in the order of intervals.

    Raises:
        DltsError: the series has no dates, or no interval is as long as asked for.
    """
    if not series.dated:
        raise DltsError("intervals need a series with dates, and this one has numbered steps only")
    found = {interval: steps_within(series, interval) for interval in sorted(set(intervals))}
    longest = max((len(steps) for steps in found.values()), default=0)
    if longest == 0:
        raise DltsError("no feature's interval holds a time step of the series: check the two columns")
    slots = longest if length is None else length
    if slots > longest:
        raise DltsError(f"--steps {slots} is more than the {longest} time steps of the longest interval")
    days = series.days
    full = [days[steps[:slots]] - _day(interval) for interval, steps in found.items() if len(steps) >= slots]
    usual = np.median(np.stack(full), axis=0)
    cuts = {}
    for interval, steps in found.items():
        if steps:
            cuts[interval] = _fit(interval, steps[:slots], days, usual)
    return cuts


def nominal_steps(cuts: Sequence[Cut], series: SeriesSpec) -> tuple[TimeStep, ...]:
    """Time steps that stand for all samples: those of the commonest full cut (the earliest of equals)."""
    counts = Counter(cuts)
    best = min(counts, key=lambda cut: (MISSING in cut.steps, -counts[cut], cut.days))
    times = [series.steps[step].time if step != MISSING else _date(day) for step, day in best.slots]
    return tuple(TimeStep(number, time) for number, time in enumerate(times))


def _date(day: float) -> str:
    return (EPOCH + dt.timedelta(days=math.floor(day))).date().isoformat()


def _day(interval: Interval) -> float:
    return (dt.datetime.fromisoformat(interval[0]) - EPOCH).total_seconds() / 86400.0


def _fit(interval: Interval, steps: list[int], days: np.ndarray, usual: np.ndarray) -> Cut:
    """Place the steps in the slots, in order, as close to the usual days as can be."""
    start = _day(interval)
    slots = _align(days[steps] - start, usual)
    out = [MISSING] * len(usual)
    out_days = (start + usual).tolist()
    for slot, step in zip(slots, steps, strict=True):
        out[slot], out_days[slot] = step, float(days[step])
    # An empty slot's usual day may pass its neighbours' own days: days must ascend.
    known = [slot for slot in range(len(out)) if out[slot] != MISSING]
    for slot in range(len(out)):
        if out[slot] == MISSING:
            before = [out_days[k] for k in known if k < slot]
            after = [out_days[k] for k in known if k > slot]
            low = max([out_days[slot - 1]] if slot else before, default=-np.inf)
            out_days[slot] = float(np.clip(out_days[slot], low, min(after, default=np.inf)))
    return Cut(tuple(out), tuple(out_days), interval)


def _align(own: np.ndarray, usual: np.ndarray) -> list[int]:
    """Slot of each of the own days: strictly ascending, with the least sum of distances."""
    count, slots = len(own), len(usual)
    distance = np.abs(own[:, None] - usual[None, :])
    cost = np.full((count + 1, slots + 1), np.inf)
    cost[0] = 0
    for step in range(1, count + 1):
        for slot in range(step, slots + 1):
            placed = cost[step - 1, slot - 1] + distance[step - 1, slot - 1]
            cost[step, slot] = min(cost[step, slot - 1], placed)
    out, slot = [], slots
    for step in range(count, 0, -1):
        while cost[step, slot] == cost[step, slot - 1]:
            slot -= 1
        out.append(slot - 1)
        slot -= 1
    return out[::-1]
