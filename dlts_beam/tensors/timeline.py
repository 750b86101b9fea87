"""Regular timelines: linear interpolation, or a composite of the observations of each period."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dlts_beam.spec.model import Timeline


def timeline_days(timeline: Timeline, days: np.ndarray) -> np.ndarray:
    """Target days, float64 (T',) or (T', N) as ``days`` is (T,) or (T, N).

    For ``interpolate`` the targets themselves, for composites the middles of the periods.
    """
    base = days[0]
    if not timeline.relative:
        years = np.floor(base).astype("datetime64[D]").astype("datetime64[Y]")
        base = years.astype("datetime64[D]").astype(np.float64)
    offsets = timeline.start + timeline.step * np.arange(timeline.count, dtype=np.float64)
    if timeline.method != "interpolate":
        offsets = offsets + timeline.step / 2
    return offsets + base if days.ndim == 1 else offsets[:, None] + base[None, :]


def counted_steps(timeline: Timeline, days: np.ndarray) -> np.ndarray:
    """Time steps whose observations count for a pixel's class: bool (T,) or (T, N) as ``days`` is.

    For composites those that fall in one of the periods: the model sees nothing of others. Interpolation
    has no such bounds, since the ends are held however far away they are; there those count that lie at most
    one step before the first target or after the last one, so that no class is made from far dates alone.
    """
    targets = timeline_days(timeline, days)
    if timeline.method == "interpolate":
        return (days >= targets[0] - timeline.step) & (days <= targets[-1] + timeline.step)
    counted = np.zeros(days.shape, bool)
    for middle in targets:
        counted |= in_period(days, middle, timeline.step)
    return counted


def in_period(days: np.ndarray, middle: np.ndarray, step: float) -> np.ndarray:
    """Bool, as ``days``: does a day lie in the period round ``middle``, its start included, its end not?"""
    half = step / 2
    return (days >= middle - half) & (days < middle + half)


def interpolate_at(filled: np.ndarray, days: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Linear interpolation of a gapless series at target days; the ends are held.

    Args:
        filled: float32 (T, N, B).
        days: float64 (T,) or (T, N), ascending.
        targets: float64 (T',) or (T', N).

    Returns:
        float32 (T', N, B).
    """
    steps = len(filled)
    if days.ndim == 1:
        after = np.clip(np.searchsorted(days, targets, side="left"), 1, max(steps - 1, 1))
    else:
        after = np.clip((days[None] < targets[:, None]).sum(axis=1), 1, max(steps - 1, 1))
    after = np.minimum(after, steps - 1)
    before = np.maximum(after - 1, 0)
    if days.ndim == 1:
        left, right = filled[before], filled[after]
        left_day, right_day = days[before], days[after]
    else:
        left = np.take_along_axis(filled, before[:, :, None], 0)
        right = np.take_along_axis(filled, after[:, :, None], 0)
        left_day, right_day = np.take_along_axis(days, before, 0), np.take_along_axis(days, after, 0)
    gap = np.maximum(right_day - left_day, 1e-6)
    weight = np.clip((targets - left_day) / gap, 0.0, 1.0).astype(np.float32)
    weight = weight[:, None, None] if days.ndim == 1 else weight[:, :, None]
    return (left + (right - left) * weight).astype(np.float32)


def composite(
    values: np.ndarray,
    valid: np.ndarray,
    days: np.ndarray,
    targets: np.ndarray,
    timeline: Timeline,
    names: Sequence[str],
) -> tuple[np.ndarray, np.ndarray]:
    """One value per period and band from the valid observations in it.

    Args:
        values, valid: (T, N, B).
        days: (T,) or (T, N).
        targets: middles of the periods, (T',) or (T', N); a period reaches half a step either way,
            its start included, its end not.
        timeline: method and step.
        names: names of the B bands, to find ``timeline.by``.

    Returns:
        values float32 (T', N, B), 0 where no observation falls in the period, and valid.
    """
    shape = (len(targets), *values.shape[1:])
    out, usable = np.zeros(shape, np.float32), np.zeros(shape, bool)
    for period, middle in enumerate(targets):
        inside = in_period(days, middle, timeline.step)
        steps = np.flatnonzero(inside if days.ndim == 1 else inside.any(axis=1))
        if not len(steps):
            continue
        member = valid[steps]
        if days.ndim == 2:
            member = member & inside[steps][:, :, None]
        if timeline.method == "median":
            out[period], usable[period] = _median(values[steps], member)
        else:
            by = list(names).index(timeline.by or "")
            out[period], usable[period] = _at_maximum(values[steps], member, by)
    return out, usable


def _median(values: np.ndarray, valid: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Median over axis 0 of the valid entries: mean of the two middle ones where their number is even."""
    count = valid.sum(axis=0)
    ordered = np.sort(np.where(valid, values, np.float32(np.inf)), axis=0)
    low = np.take_along_axis(ordered, np.maximum(count - 1, 0)[None] // 2, 0)[0]
    high = np.take_along_axis(ordered, np.minimum(count // 2, len(values) - 1)[None], 0)[0]
    usable = count > 0
    low, high = np.where(usable, low, 0), np.where(usable, high, 0)
    return ((low + high) / 2).astype(np.float32), usable


def _at_maximum(values: np.ndarray, valid: np.ndarray, by: int) -> tuple[np.ndarray, np.ndarray]:
    """All bands of the time step at which band ``by`` is largest (the earliest of equals)."""
    key = np.where(valid[..., by], values[..., by], np.float32(-np.inf))
    best = np.argmax(key, axis=0)[None, :, None]
    chosen = np.take_along_axis(values, np.broadcast_to(best, (1, *values.shape[1:])), 0)[0]
    usable = np.take_along_axis(valid, np.broadcast_to(best, (1, *valid.shape[1:])), 0)[0]
    usable = np.logical_and(usable, np.any(valid[..., by : by + 1], axis=0))
    return np.where(usable, chosen, 0).astype(np.float32), usable
