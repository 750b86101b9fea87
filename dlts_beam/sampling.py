"""From places to shards: points to pixels, duplicates and conflicts, windows, contiguous shard ranges.

Everything here is integer arithmetic on small arrays: no pixel is read. Order and contents depend on the
input alone, never on workers or chance.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from dlts_beam.grid import Grid, Window
from dlts_beam.spec.series import Band, SeriesSpec

WINDOW = 256
WINDOW_BYTES = 160 << 20  # raw values and validity of one window
SHARD_BYTES = 128 << 20  # series of one shard before compression
MIN_SHARDS = 8
WINDOWS_PER_SHARD = 32


@dataclass(frozen=True)
class Candidates:
    """N pixels that may become samples; all arrays int64 (N,).

    Attributes:
        feature: number of the feature in the vector file.
        row, col: pixel.
        class_id: class.
        cut: which of the time cuts (see `dlts_beam.intervals`) is its series.
    """

    feature: np.ndarray
    row: np.ndarray
    col: np.ndarray
    class_id: np.ndarray
    cut: np.ndarray

    def __len__(self) -> int:
        return len(self.row)

    def take(self, index: np.ndarray) -> Candidates:
        """Those at the given positions (or where a bool array is True)."""
        parts = (self.feature, self.row, self.col, self.class_id, self.cut)
        return Candidates(*(part[index] for part in parts))


class Resolved(NamedTuple):
    """Positions (int64, ascending) of candidates by what became of them; together they are all of them."""

    kept: np.ndarray
    duplicate: np.ndarray
    conflict: np.ndarray


class WindowPoints(NamedTuple):
    """A window and the samples whose patches are cut out of it: candidates [start, stop) of the shard."""

    window: Window
    start: int
    stop: int


@dataclass(frozen=True)
class ShardPlan:
    """One output file: its windows in order, and its candidates in the order in which they are written."""

    shard: int
    shards: int
    windows: tuple[WindowPoints, ...]
    points: Candidates
    kept: tuple[tuple[str, ...], ...] = ()


def pixels_of(grid: Grid, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns int64 (N,) of the pixels that hold map coordinates float64 (N,): `Grid.rowcol`'s twin.

    By floor, never by truncation: a place just left of or above the grid gets row or column -1. A place
    without finite coordinates gets (-1, -1).
    """
    finite = np.isfinite(x) & np.isfinite(y)
    left, top = grid.transform[2], grid.transform[5]
    with np.errstate(invalid="ignore"):  # a place beyond all integers is outside, whatever it becomes
        rows, cols = grid.rowcols(np.where(finite, x, left), np.where(finite, y, top))
    return np.where(finite, rows, -1), np.where(finite, cols, -1)


def inside(grid: Grid, rows: np.ndarray, cols: np.ndarray) -> np.ndarray:
    """Bool (N,): True where (row, col) is a pixel of the grid."""
    return (rows >= 0) & (rows < grid.height) & (cols >= 0) & (cols < grid.width)


def centres(grid: Grid, rows: np.ndarray, cols: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Map coordinates float64 (N,) of pixel centres: x and y."""
    a, b, c, d, e, f = grid.transform
    at_row, at_col = rows + 0.5, cols + 0.5
    return a * at_col + b * at_row + c, d * at_col + e * at_row + f


def resolve(candidates: Candidates) -> Resolved:
    """Settle pixels that are named more than once with the same time cut.

    Same class: the first is kept, the others are duplicates. Different classes: all are conflicts.
    """
    if not len(candidates):
        nothing = np.zeros(0, np.int64)
        return Resolved(nothing, nothing, nothing)
    order = np.lexsort((candidates.col, candidates.row, candidates.cut))  # stable: first stays first
    keys = np.stack([candidates.cut, candidates.row, candidates.col])[:, order]
    new = np.concatenate([[True], (np.diff(keys) != 0).any(axis=0)])
    starts, group = np.flatnonzero(new), np.cumsum(new) - 1
    classes = candidates.class_id[order]
    mixed = np.minimum.reduceat(classes, starts) != np.maximum.reduceat(classes, starts)
    conflict = mixed[group]
    return Resolved(
        np.sort(order[new & ~conflict]), np.sort(order[~new & ~conflict]), np.sort(order[conflict])
    )


def common_dtype(bands: Sequence[Band]) -> np.dtype:
    """The data type that holds the stored values of all bands."""
    return np.result_type(*(np.dtype(band.dtype) for band in bands))


def window_size(series: SeriesSpec, patch: int) -> int:
    """Side of the windows: 256, halved until one window's values and validity fit the budget."""
    per_pixel = len(series.steps) * len(series.bands) * (common_dtype(series.bands).itemsize + 1)
    size = WINDOW
    while size > 16 and (size + patch - 1) ** 2 * per_pixel > WINDOW_BYTES:
        size //= 2
    return size


def shard_count(windows: int, samples: int, bytes_per_sample: int) -> int:
    """How many shards to write: a function of the data alone, so that every machine gives the same files."""
    by_bytes = math.ceil(samples * bytes_per_sample / SHARD_BYTES)
    return max(1, min(windows, max(MIN_SHARDS, by_bytes, math.ceil(windows / WINDOWS_PER_SHARD))))


def plan_shards(
    candidates: Candidates,
    kept: Sequence[Sequence[str]],
    grid: Grid,
    size: int,
    bytes_per_sample: int,
    shards: int | None = None,
) -> list[ShardPlan]:
    """Group candidates by window and the windows, in row order, into contiguous ranges, one per shard.

    Every candidate is in exactly one plan; in it, they are ordered by window, row, column and cut.

    Args:
        candidates: what is to be cut out, each pixel and cut once.
        kept: per kept attribute one text per feature of the vector file.
        grid: the series' grid.
        size: side of a window.
        bytes_per_sample: of the stored series.
        shards: how many to make, at most one per window; None decides by `shard_count`.
    """
    down, across = candidates.row // size, candidates.col // size
    order = np.lexsort((candidates.cut, candidates.col, candidates.row, across, down))
    ordered = candidates.take(order)
    key = down[order] * -(-grid.width // size) + across[order]
    starts = np.flatnonzero(np.concatenate([[True], np.diff(key) != 0]))
    stops = np.append(starts[1:], len(ordered))
    if shards is None:
        shards = shard_count(len(starts), len(ordered), bytes_per_sample)
    bounds = _balanced(stops - starts, min(shards, len(starts)), size * size)
    plans = []
    for shard, (first, last) in enumerate(bounds):
        offset, end = int(starts[first]), int(stops[last - 1])
        windows = []
        for at in range(first, last):
            corner = ordered.take(starts[at : at + 1])
            row, col = int(corner.row[0]) // size * size, int(corner.col[0]) // size * size
            window = Window(row, col, min(size, grid.height - row), min(size, grid.width - col))
            windows.append(WindowPoints(window, int(starts[at]) - offset, int(stops[at]) - offset))
        points = ordered.take(np.arange(offset, end))
        texts = tuple(tuple(column[feature] for feature in points.feature) for column in kept)
        plans.append(ShardPlan(shard, len(bounds), tuple(windows), points, texts))
    return plans


def _balanced(counts: np.ndarray, shards: int, window_cost: int) -> list[tuple[int, int]]:
    """Cut windows into ``shards`` contiguous, non-empty ranges of about equal work.

    A window costs its pixels, a sample about as much as 20 pixels.
    """
    total = np.cumsum(window_cost + 20 * counts)
    ends: list[int] = []
    for shard in range(1, shards + 1):
        end = int(np.searchsorted(total, total[-1] * shard / shards)) + 1
        low, high = (ends[-1] if ends else 0) + 1, len(counts) - (shards - shard)
        ends.append(min(max(end, low), high))
    return list(zip([0, *ends[:-1]], ends, strict=True))


def reach_of(points: Candidates, patch: int, grid: Grid) -> Window:
    """The part of the grid that the patches of some points touch: their box, grown by the halo, clipped."""
    row, col = int(points.row.min()), int(points.col.min())
    box = Window(row, col, int(points.row.max()) - row + 1, int(points.col.max()) - col + 1)
    clipped = box.grow(patch // 2).intersect(grid.window)
    if clipped is None:
        raise ValueError(f"points must lie in the grid {grid.window}; got {box}")
    return clipped


def block_ids(x: np.ndarray, y: np.ndarray, size: float) -> list[str]:
    """Name of the square block of ``size`` map units that holds each place."""
    across, down = np.floor(x / size).astype(np.int64), np.floor(y / size).astype(np.int64)
    return [f"{column}_{row}" for column, row in zip(across.tolist(), down.tolist(), strict=True)]


def default_block_size(grid: Grid) -> float:
    """Side of the spatial blocks in map units: a 20th of the grid's longer side, at least 10 pixels."""
    left, bottom, right, top = grid.bounds()
    a, b, _, d, e, _ = grid.transform
    pixel = math.sqrt(abs(a * e - b * d))
    return max(10 * pixel, max(right - left, top - bottom) / 20)
