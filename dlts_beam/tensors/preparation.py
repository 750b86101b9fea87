"""From (values, valid, days) to the tensor a model takes: the second of the two pure functions.

Everything here works element by element on arrays (T, N, B): time steps, pixels, bands. So a sample
and the same pixel in a window get the same bits, however many pixels stand beside it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dlts_beam.errors import DltsError
from dlts_beam.spec.model import IndexSpec, PreparationSpec
from dlts_beam.tensors.timeline import composite, interpolate_at, timeline_days

STRIP = 4096  # pixels a pass works on at once: the carried arrays then stay in the cache


def count_observed(valid: np.ndarray) -> np.ndarray:
    """int32 (...): time steps at which any band is valid, from bool (T, ..., B)."""
    return valid.any(axis=-1).sum(axis=0, dtype=np.int32)


def band_positions(have: Sequence[str], wanted: Sequence[str]) -> list[int]:
    """Index of each wanted band among those of a series.

    Raises:
        DltsError: a band is missing; it is named.
    """
    missing = [name for name in wanted if name not in have]
    if missing:
        raise DltsError(f"the series has no band {', '.join(missing)}; it has {', '.join(have)}")
    return [list(have).index(name) for name in wanted]


def prepare(values: np.ndarray, valid: np.ndarray, days: np.ndarray, spec: PreparationSpec) -> np.ndarray:
    """Make the model's input, in physical units: nothing is missing in it.

    Spectral indices, gap filling linear in days with ends held, the regular timeline where the
    spec has one; a position never observed takes the training mean.

    Args:
        values: float32 (T, N, B), the bands of ``spec.bands`` in that order.
        valid: bool (T, N, B).
        days: float64 (T,), or (T, N) where every pixel has its own times; ascending.
        spec: preparation of the model.

    Returns:
        float32 (T', N, B'): T' is the timeline's count or T, B' = bands and indices.
    """
    if values.shape[2] != len(spec.bands):
        raise ValueError(f"values must hold the {len(spec.bands)} bands of the spec; got {values.shape[2]}")
    steps = len(values) if spec.timeline is None else spec.timeline.count
    out = np.empty((steps, values.shape[1], len(spec.names)), np.float32)
    for start in range(0, values.shape[1], STRIP):
        part = slice(start, start + STRIP)
        part_days = days if days.ndim == 1 else days[:, part]
        out[:, part] = _prepare_strip(values[:, part], valid[:, part], part_days, spec)
    return out


def _prepare_strip(
    values: np.ndarray, valid: np.ndarray, days: np.ndarray, spec: PreparationSpec
) -> np.ndarray:
    if spec.indices:
        values, valid = append_indices(values, valid, spec.bands, spec.indices)
    fill = np.array(spec.fill, np.float32)
    if spec.timeline is None:
        return fill_gaps(values, valid, days, fill)
    targets = timeline_days(spec.timeline, days)
    if spec.timeline.method == "interpolate":
        return interpolate_at(fill_gaps(values, valid, days, fill), days, targets)
    values, valid = composite(values, valid, days, targets, spec.timeline, spec.names)
    return fill_gaps(values, valid, targets, fill)


def append_indices(
    values: np.ndarray, valid: np.ndarray, bands: Sequence[str], indices: Sequence[IndexSpec]
) -> tuple[np.ndarray, np.ndarray]:
    """Append normalised differences as further bands; valid where both bands are and their sum is not 0."""
    more_values, more_valid = [values], [valid]
    for index in indices:
        first, second = band_positions(bands, (index.first, index.second))
        total = values[..., first] + values[..., second]
        usable = valid[..., first] & valid[..., second] & (total != 0)
        difference = values[..., first] - values[..., second]
        ratio = np.divide(difference, total, out=np.zeros_like(total), where=usable)
        more_values.append(ratio[..., None])
        more_valid.append(usable[..., None])
    return np.concatenate(more_values, axis=-1), np.concatenate(more_valid, axis=-1)


def fill_gaps(values: np.ndarray, valid: np.ndarray, days: np.ndarray, fill: np.ndarray) -> np.ndarray:
    """Fill what is not valid: linear in days between neighbours, ends held, ``fill`` where nothing is.

    Args:
        values: float32 (T, N, B).
        valid: bool (T, N, B).
        days: float64 (T,) or (T, N), ascending.
        fill: float32 (B,), for series without any valid value.

    Returns:
        float32 (T, N, B); a new array unless nothing was missing.
    """
    gappy = ~valid.all(axis=(0, 2))
    if not gappy.any():
        return values
    out = values.copy()
    whole = bool(gappy.all())
    part_values = out if whole else out[:, gappy]
    part_valid = valid if whole else valid[:, gappy]
    relative = np.asarray(days - days[0], np.float32)
    if relative.ndim == 2:
        relative = relative if whole else relative[:, gappy]
        relative = relative[:, :, None]
    else:
        relative = relative[:, None, None]
    _fill_in_place(part_values, part_valid, relative)
    never = ~part_valid.any(axis=0)
    if never.any():
        part_values[:] = np.where(never, fill, part_values)
    if not whole:
        out[:, gappy] = part_values
    return out


def _fill_in_place(values: np.ndarray, valid: np.ndarray, days: np.ndarray) -> None:
    """Two passes over time: carry the next valid value and day back, then the last one forward."""
    # Bands that share one mask share the weights: the day arrays then have a single band.
    shared = bool((valid == valid[..., :1]).all())
    day_valid = valid[..., :1] if shared else valid
    steps = len(values)
    first = np.argmax(valid, axis=0)[None]
    last = (steps - 1 - np.argmax(valid[::-1], axis=0))[None]
    # Carrying the last valid value back past the end, and the first one forward from before the
    # start, holds the ends: both neighbours are then equal and the weight does not matter.
    next_value = np.take_along_axis(values, last, 0)[0]
    next_day = np.broadcast_to(days[-1] + 1, day_valid.shape[1:])
    next_values, next_days = np.empty_like(values), np.empty(day_valid.shape, np.float32)
    for step in range(steps - 1, -1, -1):
        next_value = np.where(valid[step], values[step], next_value)
        next_day = np.where(day_valid[step], days[step], next_day)
        next_values[step], next_days[step] = next_value, next_day
    last_value = np.take_along_axis(values, first, 0)[0]
    last_day = np.broadcast_to(days[0] - 1, day_valid.shape[1:])
    for step in range(steps):
        gap = np.maximum(next_days[step] - last_day, np.float32(1e-6))
        weight = np.clip((days[step] - last_day) / gap, np.float32(0), np.float32(1))
        between = last_value + (next_values[step] - last_value) * weight
        np.copyto(values[step], between, where=~valid[step])
        last_value = np.where(valid[step], values[step], last_value)
        last_day = np.where(day_valid[step], days[step], last_day)
